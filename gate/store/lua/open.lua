-- Gives a Partition an epoch if it has none, or a new one if a script ended halfway; and the deployment its number of
-- Partitions and its schema.
--   KEYS  1 meta  2 log
--   ARGV  1-5 as lib/append.lua  6 number of Partitions to set, or '' in any Partition but 0  7 schema version
--   returns {seq, epoch, number of Partitions or '', schema or ''}, the present values
-- Atomic: two first starts with different numbers must agree on one of them before either writes a fact.
--!include append
open_log()
local newest = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1]
if newest and tonumber(string.match(newest[1], '^%d+')) > seq then
  start_history()
end
if ARGV[6] ~= '' then
  redis.call('HSETNX', KEYS[1], 'partitions', ARGV[6])
  redis.call('HSETNX', KEYS[1], 'schema', ARGV[7])
end
local reply = close_log()
local meta = redis.call('HMGET', KEYS[1], 'partitions', 'schema')
reply[3] = meta[1] or ''
reply[4] = meta[2] or ''
return reply
