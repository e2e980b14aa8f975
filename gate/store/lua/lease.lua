-- Takes or renews a node's lease, on the server's clock, and forgets nodes whose lease has ended.
--   KEYS  1 nodes
--   ARGV  1 node id  2 lease, ms, or '0' to give it up
--   returns when the lease ends, ms
-- Atomic: reading the clock and writing the end must not be apart.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now))
if ARGV[2] == '0' then
  redis.call('ZREM', KEYS[1], ARGV[1])
  return now
end
redis.call('ZADD', KEYS[1], string.format('%.0f', now + tonumber(ARGV[2])), ARGV[1])
return now + tonumber(ARGV[2])
