-- Records the use of a nonce, and returns whether it is the first.
--   KEYS  1 nonces
--   ARGV  1 nonce  2 end of its signature's validity, ms  3 capacity of the set
--   returns 1 for the first use, 0 afterwards, -1 with nothing written if the set is full
-- Atomic: of two concurrent requests with one nonce, only one may be the first.
if redis.call('ZSCORE', KEYS[1], ARGV[1]) then
  return 0
end
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[3]) then
  return -1
end
return redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
