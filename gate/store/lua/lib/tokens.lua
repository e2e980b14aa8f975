-- From which moment a User's Tokens are valid, so that none that was handed out before is. Included after `append`.

-- `facts` is the User's key, `from` the moment that the caller asks for. A Token says when it was minted by the clock of a
-- node; `t` records the latest such moment, which covers Tokens of a clock that was ahead.
local function valid_from(facts, from)
  local known = redis.call('HMGET', facts, 'v', 't')
  local latest = tonumber(known[2] or 0)
  from = math.max(from, tonumber(known[1] or 0))
  -- A moment in the past spares what was minted since; of a Token from the future it is not known when that was.
  if from > now or latest > now then
    from = math.max(from, latest + 1)
  end
  return from
end
