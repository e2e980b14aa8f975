-- What has ended for good. Included by scripts that delete it.

-- The latest end that is over, ms: `before`, which the caller took from the clocks of all nodes (gate/store/clocks.py), and by
-- the server's own clock as well.
local function over(before)
  local time = redis.call('TIME')
  return string.format('%.0f', math.min(tonumber(before), time[1] * 1000 + math.floor(time[2] / 1000)))
end
