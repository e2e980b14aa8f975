-- Closes Sessions of Users on any Gateway, and appends a `kick` for each to the feed.
--   KEYS  1 base
--   ARGV  1 slicing and 2 whether these Users move, as lib/slices.lua says
--         3 why  4 only Sessions whose Token was minted before this, ms, or ''  5 only this session, or ''
--         6 only this platform, or ''  7 Changelog epoch and 8 seq of the Change that this follows from, or '' for none
--         9... Users
--   returns for each User: how many live Sessions were closed, or the slice that the User is in
-- Atomic: a Session that opens meanwhile is either closed here, or refused by the connect fence that this script sets.
--!include presence
--!include slices
--!include presence_changes
--!include bars
local why, minted_before, closed = ARGV[3], tonumber(ARGV[4]), {}
local all = users_from(9, 1)
find(all)
local users = {}
for nth, user in ipairs(all) do
  closed[nth] = elsewhere[user] or 0
  if not elsewhere[user] then
    users[#users + 1] = user
  end
end
if #users == 0 then
  return closed
end

local function bar_all()
  local bars, barred = {}, {}
  read_bars(users)
  for _, user in ipairs(users) do
    -- A node that is further in the Changelog may have set a higher fence: it must not be lowered.
    local epoch, seq = bar_of(user)
    local higher = epoch == ARGV[7] and tonumber(seq) > tonumber(ARGV[8]) and seq or ARGV[8]
    bars[#bars + 1], bars[#bars + 2] = user, ARGV[7] .. ':' .. higher
    barred[#barred + 1], barred[#barred + 2] = whole(now), user
  end
  redis.call('HSET', BARS, unpack(bars))
  redis.call('ZADD', BARRED, unpack(barred))
  -- The sweeper skips an App that never had a Gateway, so its fences expire by themselves.
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

if ARGV[7] ~= '' then
  bar_all()
end
read(SESSIONS, sessions_by, users)
read(LEFT, left_by, users)
read(SEEN, seen_by, users)
for nth, user in ipairs(all) do
  local kept, gone = {}, {}
  for _, one in ipairs(elsewhere[user] and {} or sessions_of(user)) do
    if (ARGV[5] == '' or ARGV[5] == one[ID]) and (ARGV[6] == '' or ARGV[6] == one[PLATFORM])
      and (not minted_before or one[MINTED] < minted_before) then
      gone[#gone + 1] = {one, why}
    else
      kept[#kept + 1] = one
    end
  end
  for _, one in ipairs(gone) do
    if is_live(one[1]) then
      announce_session('kick', user, one[1], why)
      closed[nth] = closed[nth] + 1
    end
  end
  if #gone > 0 then
    keep_without(user, kept, gone, 0)
  end
end
write()
return closed
