-- Removes members that have ended for good from a set ordered by end.
--   KEYS  1 the set
--   ARGV  1 the latest end that is over, ms  2 maximum
--   returns the number of removed members
-- A script because only scripts write.
--!include ended
local ended = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', over(ARGV[1]), 'LIMIT', 0, ARGV[2])
if #ended > 0 then
  redis.call('ZREM', KEYS[1], unpack(ended))
end
return #ended
