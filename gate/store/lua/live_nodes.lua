-- Reads the registry of nodes.
--   KEYS  1 nodes
--   ARGV  none
--   returns {server id, field, value, field, value, ...}
-- Atomic: the list must be of the history that the writes in front of this script are in. Writes nothing.
--!include server_id
local listed = redis.call('HGETALL', KEYS[1])
table.insert(listed, 1, server_id())
return listed
