-- Drops what an audit stream holds from before a moment. To the entry, as the App may have promised its Users just that.
--   KEYS  1 audit
--   ARGV  1 the moment, ms
--   returns how many were dropped
-- A script because only scripts write.
return redis.call('XTRIM', KEYS[1], 'MINID', '=', ARGV[1])
