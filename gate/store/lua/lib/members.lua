-- List members, each after its length in one byte, as in the `m` of a Change.

-- Maximum of members per Change; the writer packs its chunks by the same number.
local CHUNK = 100

local function unpack_members(packed)
  local members, at, size = {}, 1, #packed
  while at <= size do
    local length = string.byte(packed, at)
    members[#members + 1] = string.sub(packed, at + 1, at + length)
    at = at + 1 + length
  end
  return members
end

-- Calls `each(packed, slice)` for every CHUNK of `members`.
local function in_chunks(members, each)
  for first = 1, #members, CHUNK do
    local slice, packed = {}, {}
    for index = first, math.min(first + CHUNK - 1, #members) do
      slice[#slice + 1] = members[index]
      packed[#packed + 1] = string.char(#members[index]) .. members[index]
    end
    each(table.concat(packed), slice)
  end
end

-- Removes members from a list, with their ends, and appends the Changes.
local function take_off(kind, owner, entries, ends, members)
  in_chunks(members, function(packed, slice)
    append(kind, {'u', owner, 'm', packed})
    redis.call('ZREM', entries, unpack(slice))
    redis.call('ZREM', ends, unpack(slice))
  end)
end
