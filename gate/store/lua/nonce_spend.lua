-- Spends a nonce: answers whether this is its first use, and remembers it.
--   KEYS  1 nonces
--   ARGV  1 nonce  2 until when its signature may pass, ms  3 how many the set may hold
--   returns 1 the first time, 0 after that, -1 with nothing written where the set is full
-- Atomic: two requests with one nonce at the same moment must not both be the first.
if redis.call('ZSCORE', KEYS[1], ARGV[1]) then
  return 0
end
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[3]) then
  return -1
end
return redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
