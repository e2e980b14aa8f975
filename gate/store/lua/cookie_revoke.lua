-- Notes that a session cookie of the console was signed out, until it would have ended by itself.
--   KEYS  1 the session cookies that were ended
--   ARGV  1 the session cookie's digest  2 when it would have ended, ms
--   returns nothing of use
-- A script because only scripts write.
return redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
