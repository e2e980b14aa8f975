-- Reads the mark of the nodes that joined (join.lua), behind a write to the Partition.
--   KEYS  1 meta
--   ARGV  none
--   returns {server id, the mark, or ''}
-- Atomic: the mark must be of the history that the writes in front of this script are in. Writes nothing.
--!include server_id
return {server_id(), redis.call('HGET', KEYS[1], 'joined') or ''}
