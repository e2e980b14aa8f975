-- Adds entries to the lists of owners of one Partition. An existing entry keeps its place and takes the new end.
--   KEYS  1 meta  2 log  3... for each group: entries, ends
--   ARGV  1-5 as lib/append.lua  6 Change kind  7 ceiling of a list, or '0' for none  8 until of an entry without end
--         9... for each group: owner, until ms, number of chunks, each chunk: packed members
--   returns {seq, epoch, then for each full list: number of its first group (from 0), size, adding}
--         or, if all of them are full, {'full', '', number, size, adding...} with nothing written
-- Atomic: entries and Changes are written together; concurrent calls never exceed the ceiling. Nothing is added to a list that
-- would exceed it. Ended entries do not count; the sweep removes them, so the cost does not depend on their number. An ended
-- entry that is added again takes a new place.
--!include append
--!include members
local ceiling = tonumber(ARGV[7])

-- One owner may have several groups in a call (entries with different ends): they are counted together.
local groups, has_ends, at = {}, {}, 9
for index = 3, #KEYS, 2 do
  local group = {entries = KEYS[index], ends = KEYS[index + 1], owner = ARGV[at], ends_at = ARGV[at + 1], chunks = {}}
  local count = tonumber(ARGV[at + 2])
  group.size, group.members = 0, {}
  for chunk = 1, count do
    group.chunks[chunk] = ARGV[at + 2 + chunk]
    group.members[chunk] = unpack_members(group.chunks[chunk])
    group.size = group.size + #group.members[chunk]
  end
  at = at + 3 + count
  if has_ends[group.ends] == nil then
    has_ends[group.ends] = redis.call('EXISTS', group.ends) == 1  -- most lists have no ends, and this is the cheapest check
  end
  groups[#groups + 1] = group
end

-- The members that are on the list with an end that has passed: {index -> true}.
local function ended_of(group, members)
  local ended = {}
  if has_ends[group.ends] then
    for index, ends_at in ipairs(redis.call('ZMSCORE', group.ends, unpack(members))) do
      ended[index] = ends_at and tonumber(ends_at) <= now or nil
    end
  end
  return ended
end

-- Counts the new entries of a list. Its size is what is in force; an ended entry that is added again counts as new.
local function measure(list, group)
  for _, members in ipairs(group.members) do
    local orders, ended = redis.call('ZMSCORE', group.entries, unpack(members)), ended_of(group, members)
    for index, member in ipairs(members) do
      if not list.seen[member] and (not orders[index] or ended[index]) then
        list.seen[member] = true
        list.adding = list.adding + 1
      end
    end
  end
end

local lists, full, fits = {}, {}, ceiling == 0
for number, group in ipairs(ceiling > 0 and groups or {}) do
  local list = lists[group.entries]
  if not list then
    list = {number = number - 1, adding = 0, seen = {}, groups = {}, most = 0}
    list.size = redis.call('ZCARD', group.entries)
    if has_ends[group.ends] then
      list.size = list.size - redis.call('ZCOUNT', group.ends, '-inf', ARGV[1])
    end
    lists[group.entries] = list
  end
  list.most = list.most + group.size
  list.groups[#list.groups + 1] = group
end
for _, list in pairs(lists) do
  -- Few lists are near their ceiling: only for those is it checked which members are new.
  if list.size + list.most > ceiling then
    for _, group in ipairs(list.groups) do
      measure(list, group)
    end
  end
  list.is_full = list.adding > 0 and list.size + list.adding > ceiling
  if list.is_full then
    full[#full + 1] = list.number
    full[#full + 1] = list.size
    full[#full + 1] = list.adding
  else
    fits = true
  end
end
local function reply(first, second)
  local all = {first, second}
  for _, number in ipairs(full) do  -- not by unpack, whose stack does not fit thousands
    all[#all + 1] = number
  end
  return all
end

if not fits then
  return reply('full', '')
end

local function add(group)
  local is_timed = group.ends_at ~= ARGV[8]
  for number, chunk in ipairs(group.chunks) do
    append(ARGV[6], {'u', group.owner, 'e', group.ends_at, 'm', chunk})
    local members = group.members[number]
    local ordered, timed = {}, {}
    for index in pairs(ended_of(group, members)) do
      redis.call('ZREM', group.entries, members[index])  -- so that the entry takes a new place
    end
    for index, member in ipairs(members) do
      -- The order grows with the Changelog: an integer, unique in the list, and below 2^53 for 2^46 Changes.
      ordered[index * 2 - 1] = seq * 128 + index
      ordered[index * 2] = member
      if is_timed then
        timed[index * 2 - 1] = group.ends_at
        timed[index * 2] = member
      end
    end
    redis.call('ZADD', group.entries, 'NX', unpack(ordered))
    if is_timed then
      redis.call('ZADD', group.ends, unpack(timed))
      has_ends[group.ends] = true
    elseif has_ends[group.ends] then
      redis.call('ZREM', group.ends, unpack(members))
    end
  end
end

open_log()
for _, group in ipairs(groups) do
  if ceiling == 0 or not lists[group.entries].is_full then
    add(group)
  end
end
local head = close_log()
return reply(head[1], head[2])
