-- Sets or deletes one field of Users of one Partition: the whitelist's switch.
--   KEYS  1 meta  2 log  3... one User's facts for each User
--   ARGV  1-5 as lib/append.lua  6 Change kind  7 the Change's value, or '' for none
--         8 field  9 its value, or '' to delete it  10... the Users' ids
--   returns {seq, epoch}
-- Atomic: the fact and its Change are written together.
--!include append
open_log()
for index = 3, #KEYS do
  local fields = {'u', ARGV[10 + index - 3]}
  if ARGV[7] ~= '' then
    fields[3], fields[4] = 'v', ARGV[7]
  end
  append(ARGV[6], fields)
  if ARGV[9] == '' then
    redis.call('HDEL', KEYS[index], ARGV[8])
  else
    redis.call('HSET', KEYS[index], ARGV[8], ARGV[9])
  end
end
return close_log()
