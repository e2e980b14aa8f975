-- Searches an index of Users, after a position, for those whose id or name holds a part.
--   KEYS  1 index (sorted set)
--   ARGV  1 'REV' for descending, or '' for ascending scores  2 score of the position, or '' for the beginning
--         3 member of the position  4 entries to look at  5 matches wanted  6 what the key of a User's facts begins with
--         7... Lua patterns of the part, one for each spelling
--   returns {entries looked at, last member looked at, its score, member, score, member, score, ...}
-- Atomic so that the rank belongs to the entries that are read. Writes nothing. The facts' keys are not declared: a thousand
-- of them would cost more than the search. They have the index's hash tag, so a Cluster keeps them in its slot.
--!include zset_rank
local command, prefix, wanted = ARGV[1] == 'REV' and 'ZREVRANGE' or 'ZRANGE', ARGV[6], tonumber(ARGV[5])
-- As locals: 1 microsecond less for each entry.
local call, find = redis.call, string.find

local function holds(text)
  for index = 7, #ARGV do
    if find(text, ARGV[index]) then
      return true
    end
  end
  return false
end

local first = rank_after(KEYS[1], command, ARGV[2], ARGV[3])
local rows = call(command, KEYS[1], first, first + tonumber(ARGV[4]) - 1, 'WITHSCORES')
local found = {0, ARGV[3], ARGV[2]}
for index = 1, #rows, 2 do
  local member, score = rows[index], rows[index + 1]
  if holds(member) or holds(call('HGET', prefix .. member, 'n') or '') then
    found[#found + 1] = member
    found[#found + 1] = score
  end
  if #found == 3 + 2 * wanted or index + 1 == #rows then
    found[1], found[2], found[3] = (index + 1) / 2, member, score
    break
  end
end
return found
