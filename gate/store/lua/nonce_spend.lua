-- Spends a nonce: tells whether this is its first use, and remembers it for a while.
--   KEYS  1 nonce
--   ARGV  1 how long to remember it, ms
--   returns 1 the first time, 0 after that
-- Atomic: two requests with one nonce at the same moment must not both be the first.
return redis.call('SET', KEYS[1], '1', 'NX', 'PX', ARGV[1]) and 1 or 0
