-- Reads one page of a list, newest first, without the entries that have ended.
--   KEYS  1 entries  2 ends
--   ARGV  1 now, ms  2 order to begin below, or '' for the newest  3 entries wanted  4 approximate number of entries to read
--   returns {order of the last entry, or '' if no more follow, 1, {member, ...}, {until ms or '', ...}}
--         or {order of the last entry that was read, 0, {member, ...}, {until ms or '', ...}} if more must be read
--         The second array is empty if no entry of the list ends.
-- Atomic so that an entry and its end belong to one moment. Writes nothing.
local now, wanted, room = tonumber(ARGV[1]), tonumber(ARGV[3]), tonumber(ARGV[4])
local page, untils, looked_at, last, last_found = {}, {}, 0, ARGV[2], ''

if redis.call('EXISTS', KEYS[2]) == 0 then
  -- The usual list. Its orders are not read, and half the reply is not sent: together half the time of a page.
  local from = last == '' and '+inf' or '(' .. last
  page = redis.call('ZREVRANGEBYSCORE', KEYS[1], from, '-inf', 'LIMIT', 0, wanted + 1)
  if #page <= wanted then
    return {'', 1, page, untils}
  end
  page[#page] = nil
  return {redis.call('ZSCORE', KEYS[1], page[#page]), 1, page, untils}
end

while true do
  local from = last == '' and '+inf' or '(' .. last
  -- One more than wanted to see whether a next page exists, and some to pass over ended ones; more in each further step.
  local step = math.min(wanted + 16 - #page + looked_at, 1000)
  local rows = redis.call('ZREVRANGEBYSCORE', KEYS[1], from, '-inf', 'WITHSCORES', 'LIMIT', 0, step)
  if #rows == 0 then
    return {'', 1, page, untils}
  end
  local members = {}
  for index = 1, #rows, 2 do
    members[#members + 1] = rows[index]
  end
  local ends = redis.call('ZMSCORE', KEYS[2], unpack(members))
  for index, member in ipairs(members) do
    local ends_at = ends[index]
    if not ends_at or tonumber(ends_at) > now then
      if #page == wanted then
        return {last_found, 1, page, untils}
      end
      page[#page + 1] = member
      untils[#untils + 1] = ends_at or ''
      last_found = rows[index * 2]
    end
    last = rows[index * 2]
  end
  looked_at = looked_at + #members
  if looked_at >= room then
    -- For a full page it stays unknown whether more follow.
    if #page < wanted then
      return {last, 0, page, untils}
    end
    return {last_found, 1, page, untils}
  end
end
