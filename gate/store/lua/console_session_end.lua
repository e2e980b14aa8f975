-- Ends sessions of the console.
--   KEYS  1 sessions
--   ARGV  ids
--   returns how many of them there were
-- A script because only scripts write.
return redis.call('HDEL', KEYS[1], unpack(ARGV))
