-- Begins a new history of a Partition whose facts were restored, so that every follower loads a snapshot.
--   KEYS  1 meta  2 log
--   ARGV  1 epoch  2 number that the next Change is counted from  3 schema, or '' in any Partition but 0
--   returns 'ok'
-- Atomic: a follower never sees the new epoch with entries of the old one. The number is not 0, because the order of list
-- entries grows with it: entries that are added later must be newer than those of the backup.
redis.call('DEL', KEYS[2])
redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'seq', ARGV[2], 'tip', '')
if ARGV[3] ~= '' then
  redis.call('HSET', KEYS[1], 'schema', ARGV[3])
end
return 'ok'
