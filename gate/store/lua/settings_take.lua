-- Stores settings that all nodes of the deployment share.
--   KEYS  1 settings
--   ARGV  name, value, the value that may be replaced or '', name, ...
--   returns {name, present value, ...} of those that differ and were left unchanged
-- Atomic: of two nodes that start with different values, one sees the other's.
local differing = {}
for at = 1, #ARGV, 3 do
  local present = redis.call('HGET', KEYS[1], ARGV[at])
  if not present or (present ~= ARGV[at + 1] and present == ARGV[at + 2]) then
    redis.call('HSET', KEYS[1], ARGV[at], ARGV[at + 1])
  elseif present ~= ARGV[at + 1] then
    differing[#differing + 1] = ARGV[at]
    differing[#differing + 1] = present
  end
end
return differing
