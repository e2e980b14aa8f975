-- Takes or renews a node's lease, on the server's clock, and forgets nodes whose lease has ended.
--   KEYS  1 nodes
--   ARGV  1 node id  2 lease, ms, or '0' to give it up  3 run of the node's replicator
--         4 '1' to take it from another run, as a replicator that starts does; '' to renew
--   returns when the lease ends, ms, or 0 with nothing written if another run has taken it
-- Atomic: reading the clock and writing the end must not be apart; and of two runs under one id, of which writers would
-- wait for one only, the earlier must learn of the later.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local member = ARGV[1] .. '/' .. ARGV[3]
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now))
if ARGV[2] == '0' then
  redis.call('ZREM', KEYS[1], member)
  return now
end
for _, other in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  if other ~= member and string.match(other, '^(.*)/') == ARGV[1] then
    if ARGV[4] == '' then
      return 0
    end
    redis.call('ZREM', KEYS[1], other)
  end
end
redis.call('ZADD', KEYS[1], string.format('%.0f', now + tonumber(ARGV[2])), member)
return now + tonumber(ARGV[2])
