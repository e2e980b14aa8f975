-- Ends a job, and queues the result for its App.
--   KEYS  1 jobs  2 hooks  3 the User's facts
--   ARGV  1 now, ms  2 App key  3 the User's id
--   returns 1, or 0 if it was ended before
-- Atomic: the App receives one result per job, and only when the job is done.
--!include hooks
if redis.call('ZREM', KEYS[1], ARGV[2] .. ':' .. ARGV[3]) == 0 then
  return 0
end
local operation = redis.call('HGET', KEYS[3], 'o')
if operation then
  queue_result(KEYS[2], ARGV[2], ARGV[3], operation, '0', ARGV[1])
end
return 1
