-- Removes members of a set ordered by end that have ended for good.
--   KEYS  1 the set
--   ARGV  1 the latest end that is over, ms  2 how many at most
--   returns how many were removed
-- A script because only scripts write.
--!include ended
local ended = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', over(ARGV[1]), 'LIMIT', 0, ARGV[2])
if #ended > 0 then
  redis.call('ZREM', KEYS[1], unpack(ended))
end
return #ended
