-- Puts Users who are under way into their new slice. Nothing is appended to the feed: for its readers nothing happened.
--   KEYS  1 base
--   ARGV  1 number of the mover  2... User, what presence_take.lua replied of it, ...
--   returns how many; false if a later mover was here
-- Atomic, and safe to repeat: what is here of a User already is kept. A Session whose lease has ended here meanwhile is swept.
--!include presence
--!include presence_changes
--!include bars
local SESSIONS_AT, LEFT_AT, SEEN_AT, BAR_AT, BARRED_AT = 1, 2, 3, 4, 5
if redis.call('HGET', base .. 'mover', 'number') ~= ARGV[1] then
  return false
end
local users, parts_of = {}, {}
for at = 2, #ARGV, 2 do
  users[#users + 1], parts_of[ARGV[at]] = ARGV[at], cmsgpack.unpack(ARGV[at + 1])
end
read(SESSIONS, sessions_by, users)
read(LEFT, left_by, users)
read(SEEN, seen_by, users)
read_bars(users)

local function unpacked(user, part)
  local packed = parts_of[user][part]
  return packed ~= '' and cmsgpack.unpack(packed) or {}
end

local function put_sessions(user)
  local sessions, known = sessions_of(user), {}
  for _, one in ipairs(sessions) do
    known[one[ID]] = true
  end
  for _, one in ipairs(unpacked(user, SESSIONS_AT)) do
    if not known[one[ID]] then
      sessions[#sessions + 1] = one
      count(one, 1)
      hold(held_key(one), user, true)
      if not is_live(one) then
        redis.call('SADD', base .. 'ending', same_whole(one[EPOCH]) .. ':' .. one[GATEWAY])
      end
    end
  end
  if #sessions > 0 then
    keep_sessions(user, sessions)
  end
end

local function put_left(user)
  local left = left_of(user) or {}
  for platform, departure in pairs(unpacked(user, LEFT_AT)) do
    if not left[platform] and not has_platform(sessions_of(user), platform) then
      left[platform] = departure
    end
  end
  keep_left(user, left)
end

local function put_seen(user)
  local taken, known = unpacked(user, SEEN_AT), seen_by[user] or {0, 0}
  if taken[1] then
    seen_by[user] = {math.max(taken[1], known[1]), math.max(taken[2], known[2])}
    seen_changed[user] = true
  end
end

local function put_bar(user)
  local parts = parts_of[user]
  local epoch, seq = string.match(parts[BAR_AT], '^(%x+):(%d+)$')
  local known_epoch, known_seq = bar_of(user)
  if epoch and not (known_epoch == epoch and tonumber(known_seq) >= tonumber(seq)) then
    redis.call('HSET', BARS, user, parts[BAR_AT])
    redis.call('ZADD', BARRED, parts[BARRED_AT] ~= '' and parts[BARRED_AT] or whole(now), user)
  end
end

for _, user in ipairs(users) do
  put_sessions(user)
  put_left(user)
  put_seen(user)
  put_bar(user)
end
write()
return #users
