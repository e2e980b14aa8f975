-- Takes a result off the stream: it was delivered, or there is nobody to deliver it to.
--   KEYS  1 hooks
--   ARGV  1 entry id
--   returns 1, or 0 if it was gone
-- Atomic: an entry that is no longer pending but still there would never be looked at again.
redis.call('XACK', KEYS[1], 'webhooks', ARGV[1])
return redis.call('XDEL', KEYS[1], ARGV[1])
