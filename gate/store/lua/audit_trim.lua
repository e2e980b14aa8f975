-- Drops what an audit stream holds from before a moment, some at a time. To the entry, as the App may have promised its Users
-- just that.
--   KEYS  1 audit
--   ARGV  1 the moment, ms, of the clocks of all nodes  2 for how long entries are kept, ms  3 how many at most
--   returns how many were dropped
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
return redis.call('XTRIM', KEYS[1], 'MINID', '=', old[#old][1])  -- which stays for the next call
