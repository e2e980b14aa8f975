-- Counts an App's live Sessions by platform and Gateway, without looking at one.
--   KEYS  1 base
--   ARGV  none
--   returns {Users with a Session, of which those under an ended lease are left off only once they are swept;
--            how many leases are being swept; then for each Gateway and platform: gateway, platform, Sessions}
-- A script so that leases and counts are of one moment. Writes nothing.
--!include presence
local rows = {redis.call('HLEN', SESSIONS), redis.call('SCARD', base .. 'ending')}
local counts = redis.call('HGETALL', COUNTS)
for at = 1, #counts, 2 do
  local epoch, platform, gateway = string.match(counts[at], '^(%d+):([^:]*):(.*)$')
  local known = lease(gateway)
  if known and known.holds and known.epoch == tonumber(epoch) then
    rows[#rows + 1], rows[#rows + 2], rows[#rows + 3] = gateway, platform, tonumber(counts[at + 1])
  end
end
return rows
