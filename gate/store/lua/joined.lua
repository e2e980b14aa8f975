-- Reads the mark of the nodes that joined (join.lua), after a write to the Partition.
--   KEYS  1 meta
--   ARGV  none
--   returns {server id, the mark, or ''}
-- Atomic: the mark must belong to the same history as the writes before this script. Writes nothing.
--!include server_id
return {server_id(), redis.call('HGET', KEYS[1], 'joined') or ''}
