-- Reserves an empty deployment for the restore of one backup: until restore_end.lua no node loads its facts.
--   KEYS  1 meta of Partition 0
--   ARGV  1 the schema of a deployment that is being restored, with the backup's checksum  2 the schema of a usual one
--         3 number of Partitions, if the deployment has none yet
--   returns {the schema that was present, or '', number of Partitions}; the caller must not write unless it was '', ARGV[1]
--         or ARGV[2]
-- Atomic: of two restores that begin together, the second sees the first.
local present = redis.call('HGET', KEYS[1], 'schema') or ''
if present == '' or present == ARGV[2] then
  redis.call('HSET', KEYS[1], 'schema', ARGV[1])
  redis.call('HSETNX', KEYS[1], 'partitions', ARGV[3])
end
return {present, redis.call('HGET', KEYS[1], 'partitions')}
