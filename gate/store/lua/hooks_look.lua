-- Counts the results of one App among the next 1,000 of a Partition.
--   KEYS  1 hooks
--   ARGV  1 App key  2 from which entry on, '-' for the first  3 how long an attempt takes at most, ms
--   returns {the entry to continue from or '', how many wait, the oldest's id or '', attempts under way, tried before}
-- Atomic, and reads only: entries and attempts are of one moment.
local GROUP, MOST = 'webhooks', 1000
local entries = redis.call('XRANGE', KEYS[1], ARGV[2], '+', 'COUNT', MOST)
if #entries == 0 then
  return {'', 0, '', 0, 0}
end
local idle, last = {}, entries[#entries][1]
if #redis.call('XINFO', 'GROUPS', KEYS[1]) > 0 then
  for _, row in ipairs(redis.call('XPENDING', KEYS[1], GROUP, entries[1][1], last, MOST)) do
    idle[row[1]] = row[3]
  end
end
local waiting, oldest, under_way, tried = 0, '', 0, 0
for _, entry in ipairs(entries) do
  if entry[2][2] == ARGV[1] then  -- the first field is the App's key
    waiting = waiting + 1
    oldest = oldest == '' and entry[1] or oldest
    local since = idle[entry[1]]
    if since and since < tonumber(ARGV[3]) then
      under_way = under_way + 1
    elseif since then
      tried = tried + 1
    end
  end
end
return {#entries == MOST and '(' .. last or '', waiting, oldest, under_way, tried}
