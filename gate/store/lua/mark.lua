-- Writes a mark into a Partition's meta, so that the connection's next request (WAIT, WAITAOF) covers all writes before.
--   KEYS  1 meta
--   ARGV  1 the mark
--   returns the server id; '' if the Partition was never initialized, or was lost: then nothing is written
-- Atomic: the mark must be in the history that is returned. A server answers WAIT for the writes of the same connection, and
-- since 7.2 a command that changes nothing does not count as one.
--!include server_id
if redis.call('HEXISTS', KEYS[1], 'epoch') == 0 then
  return ''
end
redis.call('HSET', KEYS[1], 'mark', ARGV[1])
return server_id()
