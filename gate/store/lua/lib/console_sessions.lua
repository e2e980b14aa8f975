-- Sessions of the console: what the present moment is, and which of them have ended. Included by the scripts of sessions.

-- Now, ms, on the server's clock, so that the clocks of nodes need not agree.
local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Deletes every session that has expired, or had no request for `idle` ms; returns those that stay.
local function remaining(sessions, now, idle)
  local rows, kept = redis.call('HGETALL', sessions), {}
  for i = 1, #rows, 2 do
    local session = cjson.decode(rows[i + 1])
    if now >= session['until_ms'] or now - session['seen_at_ms'] > idle then
      redis.call('HDEL', sessions, rows[i])
    else
      kept[#kept + 1] = {id = rows[i], seen_at_ms = session['seen_at_ms'], operator = session['operator']}
    end
  end
  return kept
end
