-- The moment up to which facts have ended for good. Included by scripts that delete them.

-- The latest end that is over, ms: `before`, which the caller derived from the clocks of all nodes (gate/store/clocks.py), and
-- passed by the server's own clock as well.
local function over(before)
  local time = redis.call('TIME')
  return string.format('%.0f', math.min(tonumber(before), time[1] * 1000 + math.floor(time[2] / 1000)))
end
