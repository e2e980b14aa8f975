-- Dates attempts as of now if they are dated later than the server's clock, which was set back since.
--   KEYS  1 hooks
--   ARGV  1 from which entry on, '-' for the first
--   returns the entry to continue from, or '' at the end
-- Atomic: a node that takes the result again meanwhile dates its attempt by the same clock.
local GROUP = 'webhooks'
local MAX_LOOKS = 10  -- of 1,000: bounds how long the script holds the server
if redis.call('EXISTS', KEYS[1]) == 0 or #redis.call('XINFO', 'GROUPS', KEYS[1]) == 0 then
  return ''
end
local from = ARGV[1]
for _ = 1, MAX_LOOKS do
  local pending = redis.call('XPENDING', KEYS[1], GROUP, from, '+', 1000)
  for _, row in ipairs(pending) do
    -- The server shows 0 ms for a date in the future. For an attempt of this very millisecond nothing changes.
    if row[3] == 0 then
      redis.call('XCLAIM', KEYS[1], GROUP, row[2], 0, row[1], 'IDLE', 0, 'JUSTID')
    end
    from = '(' .. row[1]
  end
  if #pending < 1000 then
    return ''
  end
end
return from
