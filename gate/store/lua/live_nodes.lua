-- Names the nodes whose lease has not ended.
--   KEYS  1 nodes
--   ARGV  none
--   returns {node id, ...}
-- A script so that leases and clock are the server's own. Writes nothing.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local names = {}
for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. string.format('%.0f', now), '+inf')) do
  names[#names + 1] = string.match(member, '^(.*)/')  -- without the run
end
return names
