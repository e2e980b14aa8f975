-- Keeps what became of the latest attempt to deliver a result of an App: its moment on the server's clock, and a word.
local function note_outcome(key, outcome, problem)
  local time = redis.call('TIME')
  redis.call('HSET', key, 'at', string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)),
    'outcome', outcome, 'problem', problem)
end
