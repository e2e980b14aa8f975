-- Takes jobs that are due, and puts each off for as long as a worker may need: one that dies leaves its jobs to the next.
--   KEYS  1 jobs
--   ARGV  1 now, ms  2 when a job that is not finished is due again, ms  3 how many at most
--   returns {<app>:<id>, ...}
-- Atomic: no two workers take the same job.
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[3])
for _, job in ipairs(due) do
  redis.call('ZADD', KEYS[1], ARGV[2], job)
end
return due
