-- Removes a result from the stream: it was delivered, or its App has no webhook any more.
--   KEYS  1 hooks
--   ARGV  1 entry id
--   returns 1, or 0 if it was gone
-- Atomic: an entry that was acknowledged but not deleted would never be read again.
redis.call('XACK', KEYS[1], 'webhooks', ARGV[1])
return redis.call('XDEL', KEYS[1], ARGV[1])
