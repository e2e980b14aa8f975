-- Reads the entries of a sorted set after a position, at which an entry need not exist any more.
--   KEYS  1 sorted set
--   ARGV  1 'REV' for descending, or '' for ascending scores  2 score of the position, or '' for the beginning
--         3 member of the position  4 entries wanted
--   returns {member, score, member, score, ...}, at most as many
-- Atomic so that the rank belongs to the entries that are read. Writes nothing.
local is_reversed, score, wanted = ARGV[1] == 'REV', ARGV[2], tonumber(ARGV[4])
local command = is_reversed and 'ZREVRANGE' or 'ZRANGE'

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

local first = 0
if score ~= '' then
  local behind
  if is_reversed then
    first = redis.call('ZCOUNT', KEYS[1], '(' .. score, '+inf')
  else
    first = redis.call('ZCOUNT', KEYS[1], '-inf', '(' .. score)
  end
  -- Many entries may share the score, as permanent Bans do: a binary search among those.
  behind = first + redis.call('ZCOUNT', KEYS[1], score, score)
  while first < behind do
    local middle = math.floor((first + behind) / 2)
    local member = redis.call(command, KEYS[1], middle, middle)[1]
    local is_past
    if is_reversed then
      is_past = is_less(member, ARGV[3])
    else
      is_past = is_less(ARGV[3], member)
    end
    if is_past then
      behind = middle
    else
      first = middle + 1
    end
  end
end
return redis.call(command, KEYS[1], first, first + wanted - 1, 'WITHSCORES')
