-- Writes a mark into a Partition's meta, so that what the connection asks next (WAIT, WAITAOF) is asked of all writes before.
--   KEYS  1 meta
--   ARGV  1 the mark
--   returns the server id; '' where the Partition was never opened, or was lost: then nothing is written
-- Atomic: the mark must be in the history that is named. A server answers WAIT for what the same connection has written, and
-- since 7.2 a command that changes nothing counts no more.
--!include server_id
if redis.call('HEXISTS', KEYS[1], 'epoch') == 0 then
  return ''
end
redis.call('HSET', KEYS[1], 'mark', ARGV[1])
return server_id()
