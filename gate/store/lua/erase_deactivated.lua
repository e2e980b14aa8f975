-- Erases all facts of one deactivated User except its deactivation. Entries on other Users' lists belong to their owners.
--   KEYS  1 meta  2 log  3 users  4 bans  5 mutes  6 facts  7 Blacklist entries  8 ends  9 Whitelist entries  10 ends
--   ARGV  1-5 as lib/append.lua  6 the User's id
--   returns {seq, epoch}, or {'active'} with nothing written if it is not deactivated (any more)
-- Atomic: a User that was reactivated keeps its new facts. The Change repeats that the User is deactivated, so that it is so at
-- every moment. It stays registered, without the moment: its id is not unknown. The latest moment of its Tokens stays too, so
-- that a reactivation revokes them.
--!include append
local kept = redis.call('HMGET', KEYS[6], 'd', 'o', 'r', 't', 'v')
if not kept[1] then
  return {'active'}
end
open_log()
append('user-erased', {'u', ARGV[6], 'v', kept[3] and 'dr' or 'd'})
for index = 3, 5 do
  redis.call('ZREM', KEYS[index], ARGV[6])
end
redis.call('UNLINK', KEYS[6], KEYS[7], KEYS[8], KEYS[9], KEYS[10])
redis.call('HSET', KEYS[6], 'd', kept[1], 'o', kept[2] or '')
if kept[3] then
  redis.call('HSET', KEYS[6], 'r', '')
end
local latest = math.max(tonumber(kept[4] or 0), tonumber(kept[5] or 1) - 1)
if latest > 0 then
  redis.call('HSET', KEYS[6], 't', whole(latest))
end
return close_log()
