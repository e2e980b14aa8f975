-- Closes Sessions of Users, whoever holds them, and tells their Gateways.
--   KEYS  1 base
--   ARGV  1 why  2 only Sessions whose Token was minted before this, ms, or ''  3 only this session, or ''
--         4 only this platform, or ''  5 Changelog epoch and 6 seq of the Change that this follows from, or '' for none
--         7... Users
--   returns how many live Sessions were closed
-- Atomic: a Session that opens meanwhile is either closed here, or refused by the bar that is left behind.
--!include presence
--!include presence_changes
--!include bars
local why, minted_before, closed = ARGV[1], tonumber(ARGV[2]), 0
local users = {unpack(ARGV, 7)}

local function bar_all()
  local bars, barred = {}, {}
  read_bars(users)
  for _, user in ipairs(users) do
    -- Another node may be further in the Changelog, and have left a higher bar: it must not be lowered.
    local epoch, seq = bar_of(user)
    local higher = epoch == ARGV[5] and tonumber(seq) > tonumber(ARGV[6]) and seq or ARGV[6]
    bars[#bars + 1], bars[#bars + 2] = user, ARGV[5] .. ':' .. higher
    barred[#barred + 1], barred[#barred + 2] = whole(now), user
  end
  redis.call('HSET', BARS, unpack(bars))
  redis.call('ZADD', BARRED, unpack(barred))
  -- Nobody sweeps an App that never had a Gateway.
  local is_swept = redis.call('EXISTS', LEASES) == 1
  for _, key in ipairs({BARS, BARRED}) do
    if is_swept then
      redis.call('PERSIST', key)
    else
      redis.call('PEXPIRE', key, 2 * BAR_MS)
    end
  end
  if not is_swept then
    drop_bars(2 * #ARGV)  -- more than were set here, so that they don't pile up
  end
end

if ARGV[5] ~= '' then
  bar_all()
end
read(SESSIONS, sessions_by, users)
read(LEFT, left_by, users)
read(SEEN, seen_by, users)
for _, user in ipairs(users) do
  local kept, gone = {}, {}
  for _, one in ipairs(sessions_of(user)) do
    if (ARGV[3] == '' or ARGV[3] == one[ID]) and (ARGV[4] == '' or ARGV[4] == one[PLATFORM])
      and (not minted_before or one[MINTED] < minted_before) then
      gone[#gone + 1] = {one, why}
    else
      kept[#kept + 1] = one
    end
  end
  for _, one in ipairs(gone) do
    if is_live(one[1]) then
      tell_of('kick', user, one[1], why)
      closed = closed + 1
    end
  end
  if #gone > 0 then
    keep_without(user, kept, gone, 0)
  end
end
write()
return closed
