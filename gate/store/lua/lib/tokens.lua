-- The moment from which a User's Tokens are valid, after all Tokens issued before. Included after `append`.

-- `facts` is the User's key, `from` the moment that the caller requests. A Token contains its minting moment by the clock of a
-- node; `t` records the latest such moment, which covers Tokens of a clock that was ahead.
local function valid_from(facts, from)
  local known = redis.call('HMGET', facts, 'v', 't')
  local latest = tonumber(known[2] or 0)
  from = math.max(from, tonumber(known[1] or 0))
  -- A moment in the past spares later Tokens; for a Token from the future it is unknown when it was minted.
  if from > now or latest > now then
    from = math.max(from, latest + 1)
  end
  return from
end
