-- Records the revocation of a session cookie of the console, until its expiry.
--   KEYS  1 revoked session cookies
--   ARGV  1 the session cookie's digest  2 its expiry, ms
--   returns nothing of use
-- A script because only scripts write.
return redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
