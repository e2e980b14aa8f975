-- Notes that a badge of the console was signed out, for as long as it would have been good.
--   KEYS  1 the badge's key
--   ARGV  1 how long, ms
--   returns nothing of use
-- Atomic: without its end it would stay for good.
return redis.call('SET', KEYS[1], '1', 'PX', ARGV[1])
