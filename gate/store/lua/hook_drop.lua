-- Deletes a dead letter.
--   KEYS  1 dead letters
--   ARGV  1 entry id
--   returns 1, or 0 if it was gone
-- A script because only scripts write.
return redis.call('XDEL', KEYS[1], ARGV[1])
