-- Reads the registry of nodes.
--   KEYS  1 nodes
--   ARGV  none
--   returns {server id, field, value, field, value, ...}
-- Atomic: the list must belong to the same history as the writes before this script. Writes nothing.
--!include server_id
local listed = redis.call('HGETALL', KEYS[1])
table.insert(listed, 1, server_id())
return listed
