-- Lifts Bans or Mutes of Users of one Partition. A User without one gets a Change nevertheless: the answer then has a
-- Revision, and repeating the call is safe.
--   KEYS  1 meta  2 log  3 bans or mutes  4... one User's facts for each User
--   ARGV  1-5 as lib/append.lua  6 Change kind  7-9 fields: until, why, by  10... the Users' ids
--   returns {seq, epoch}
-- Atomic: the fact, its index entry and its Change are written together.
--!include append
open_log()
for index = 4, #KEYS do
  local id = ARGV[10 + index - 4]
  append(ARGV[6], {'u', id})
  redis.call('HDEL', KEYS[index], ARGV[7], ARGV[8], ARGV[9])
  redis.call('ZREM', KEYS[3], id)
end
return close_log()
