-- Takes Users out of a slice that they leave, and keeps all that there is of each under way to its new slice.
--   KEYS  1 base
--   ARGV  1 number of the mover  2... Users
--   returns what is under way of each, msgpack, as lib/slices.lua names the parts, '' where there is nothing; false if a later
--           mover was here
-- Atomic: what is done for a User before is taken along, and what comes after waits until the User is in the new slice. A Session
-- whose lease has ended stays behind as a departure, so that it can't be live again under a copy of that lease.
--!include presence
--!include presence_changes
--!include bars
local MOVING = base .. 'moving'
if redis.call('HGET', base .. 'mover', 'number') ~= ARGV[1] then
  return false
end
local users = {unpack(ARGV, 2)}
read(SESSIONS, sessions_by, users)
read(LEFT, left_by, users)
read(SEEN, seen_by, users)
read_bars(users)
local under_way = redis.call('HMGET', MOVING, unpack(users))
local packed, put = {}, {}
for nth, user in ipairs(users) do
  if under_way[nth] then
    packed[nth] = under_way[nth]
  elseif sessions_by[user] or left_by[user] or seen_by[user] or bars_by[user] then
    local live, gone = {}, {}
    for _, one in ipairs(sessions_of(user)) do
      if is_live(one) then
        live[#live + 1] = one
      else
        gone[#gone + 1] = {one, 'lease-ended'}
      end
    end
    if #gone > 0 then
      keep_without(user, live, gone, FLAP_MS)
    end
    for _, one in ipairs(live) do
      count(one, -1)
      hold(held_key(one), user, false)
    end
    local left, seen = left_of(user), seen_by[user]
    packed[nth] = cmsgpack.pack({
      #live > 0 and cmsgpack.pack(live) or '', left and cmsgpack.pack(left) or '', seen and cmsgpack.pack(seen) or '',
      bars_by[user] or '', redis.call('ZSCORE', BARRED, user) or '',
    })
    keep_sessions(user, {})
    keep_left(user, nil)
    put[#put + 1], put[#put + 2] = user, packed[nth]
  else
    packed[nth] = ''
  end
end
write()
if #put > 0 then
  redis.call('HSET', MOVING, unpack(put))
end
redis.call('HDEL', SEEN, unpack(users))
redis.call('HDEL', BARS, unpack(users))
redis.call('ZREM', BARRED, unpack(users))
return packed
