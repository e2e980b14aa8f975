-- Takes results to deliver: new ones, and those whose last attempt failed, or died with its worker, long enough ago.
--   KEYS  1 hooks
--   ARGV  1 consumer  2 how many at most  3 until when on the server's clock attempts are made again, ms: a clock that shows
--         more has stepped, and attempts that are under way look old  4... how long after the 1st, 2nd, ... attempt the next is
--         due, ms
--   returns {{entry id, which attempt this is, field, value, ...}, ...}
-- Atomic: no two workers take the same result; the count of attempts is the server's own, so it outlives every worker.
local GROUP = 'webhooks'
local MAX_LOOKS = 10  -- of 1,000: bounds how long the script holds the server where all of them fail
if redis.call('EXISTS', KEYS[1]) == 0 then
  return {}
end
local room, taken = tonumber(ARGV[2]), {}

local function take(entry, attempt)
  local row = {entry[1], attempt}
  for _, part in ipairs(entry[2]) do
    row[#row + 1] = part
  end
  taken[#taken + 1] = row
end

-- A server that came back without the group has forgotten what was pending: it all counts as new.
if #redis.call('XINFO', 'GROUPS', KEYS[1]) == 0 then
  redis.call('XGROUP', 'CREATE', KEYS[1], GROUP, '0')
end

local function try_again(id, idle, attempts)
  local wait = tonumber(ARGV[math.min(3 + attempts, #ARGV)])
  -- Spread over half as much again, so that what failed together does not come back together.
  wait = wait * (1 + tonumber(string.sub(string.match(id, '^(%d+)'), -2)) * 7 % 50 / 100)
  if idle < wait then
    return
  end
  local claimed = redis.call('XCLAIM', KEYS[1], GROUP, ARGV[1], 0, id)
  if claimed[1] then
    take(claimed[1], attempts + 1)
  else
    redis.call('XACK', KEYS[1], GROUP, id)  -- it was deleted
  end
end

local time = redis.call('TIME')
local has_kept_pace = time[1] * 1000 + math.floor(time[2] / 1000) <= tonumber(ARGV[3])
local from = '-'
for _ = 1, has_kept_pace and MAX_LOOKS or 0 do
  local pending = redis.call('XPENDING', KEYS[1], GROUP, 'IDLE', ARGV[4], from, '+', 1000)
  for _, row in ipairs(pending) do
    if #taken < room then
      try_again(row[1], row[3], row[4])
    end
    from = '(' .. row[1]
  end
  if #pending < 1000 or #taken >= room then
    break
  end
end
if #taken < room then
  local read = redis.call('XREADGROUP', 'GROUP', GROUP, ARGV[1], 'COUNT', room - #taken, 'STREAMS', KEYS[1], '>')
  for _, entry in ipairs(read and read[1] and read[1][2] or {}) do
    take(entry, 1)
  end
end
return taken
