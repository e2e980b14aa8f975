-- Erases everything that one deactivated User has, but that it is deactivated. Entries on other people's lists are theirs.
--   KEYS  1 meta  2 log  3 users  4 bans  5 mutes  6 facts  7 Blacklist entries  8 ends  9 Whitelist entries  10 ends
--   ARGV  1-5 as lib/append.lua  6 the User's id
--   returns {seq, epoch}, or {'active'} with nothing written if it is not deactivated (any more)
-- Atomic: a User that was reactivated keeps what it has anew. The Change says that the User stays deactivated, so that there
-- is no moment at which it is not. That it was registered stays too, without the moment: the id is not an unknown one. Up to when
-- its Tokens were minted stays, so that a reactivation revokes them.
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
