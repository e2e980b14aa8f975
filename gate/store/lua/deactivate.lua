-- Deactivates Users of one Partition, and queues the erasure of their facts as jobs.
--   KEYS  1 meta  2 log  3 gone  4 jobs  5 hooks  6... one User's facts for each User
--   ARGV  1-5 as lib/append.lua  6 operation  7... the Users' ids
--   returns {seq, epoch}
-- Atomic: a deactivated User is always erased in the end, and has one moment and one operation of its deactivation.
-- For one that is deactivated already there is nothing left to do, so its App receives the result at once.
--!include append
--!include hooks
open_log()
for index = 6, #KEYS do
  local id = ARGV[7 + index - 6]
  append('user-deactivated', {'u', id})
  if redis.call('HSETNX', KEYS[index], 'd', ARGV[1]) == 1 then
    redis.call('HSET', KEYS[index], 'o', ARGV[6])
    redis.call('ZADD', KEYS[3], ARGV[1], id)
    redis.call('ZADD', KEYS[4], '0', app .. ':' .. id)
  else
    queue_result(KEYS[5], app, id, ARGV[6], '0', ARGV[1])
  end
end
return close_log()
