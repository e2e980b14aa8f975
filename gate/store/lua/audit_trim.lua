-- Deletes entries of an audit stream from before a moment, a batch at a time. Exact to the entry, since the App may have
-- promised this period to its Users.
--   KEYS  1 audit
--   ARGV  1 the moment, ms, passed by the clocks of all nodes  2 how long entries are kept, ms  3 maximum of entries
--   returns the number of deleted entries
-- A script because only scripts write.
--!include ended
local before = tonumber(over(ARGV[1])) - tonumber(ARGV[2])
if before <= 0 then
  return 0
end
before = string.format('%.0f', before)
local old = redis.call('XRANGE', KEYS[1], '-', '(' .. before .. '-0', 'COUNT', ARGV[3])
if #old == 0 then
  return 0
end
if #old < tonumber(ARGV[3]) then
  return redis.call('XTRIM', KEYS[1], 'MINID', '=', before)
end
return redis.call('XTRIM', KEYS[1], 'MINID', '=', old[#old][1])  -- keeps the last one of the batch for the next call
