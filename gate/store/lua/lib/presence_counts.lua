-- Live Sessions by Gateway and platform, from their counts; no Session is looked at. Put behind lib/presence.lua.

-- For each Gateway and platform with at least one: {gateway, platform, Sessions}.
local function live_counts()
  local found, counts = {}, redis.call('HGETALL', COUNTS)
  for at = 1, #counts, 2 do
    local epoch, platform, gateway = string.match(counts[at], '^(%d+):([^:]*):(.*)$')
    local known = lease(gateway)
    if known and known.holds and known.epoch == tonumber(epoch) then
      found[#found + 1] = {gateway, platform, tonumber(counts[at + 1])}
    end
  end
  return found
end
