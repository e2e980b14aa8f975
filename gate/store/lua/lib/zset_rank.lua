-- Byte by byte, as Redis orders members: `<` would depend on the locale.
local function is_less(one, other)
  for index = 1, math.min(#one, #other) do
    local a, b = one:byte(index), other:byte(index)
    if a ~= b then
      return a < b
    end
  end
  return #one < #other
end

-- The rank of the first entry of a sorted set after a position, at which an entry need not exist any more.
-- `score` is '' for the beginning; `command` is ZRANGE for ascending scores, ZREVRANGE for descending ones.
local function rank_after(key, command, score, member)
  if score == '' then
    return 0
  end
  local is_reversed = command == 'ZREVRANGE'
  local first
  if is_reversed then
    first = redis.call('ZCOUNT', key, '(' .. score, '+inf')
  else
    first = redis.call('ZCOUNT', key, '-inf', '(' .. score)
  end
  -- Many entries may share the score, as permanent Bans do: a binary search among those.
  local behind = first + redis.call('ZCOUNT', key, score, score)
  while first < behind do
    local middle = math.floor((first + behind) / 2)
    local found = redis.call(command, key, middle, middle)[1]
    local is_past
    if is_reversed then
      is_past = is_less(found, member)
    else
      is_past = is_less(member, found)
    end
    if is_past then
      behind = middle
    else
      first = middle + 1
    end
  end
  return first
end
