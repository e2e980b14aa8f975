-- Appends the counts of presence_counts.lua, added to those of other slices, to the App's samples, unless this slot of time
-- already has one.
--   KEYS  1 base
--   ARGV  1 how long a slot is, ms  2 how many samples are kept  3 how many pairs of Gateway and platform one names
--         4 of how many platforms it sums the others  5 how many Users have a Session in other slices
--         6... of what other slices count: gateway, platform, Sessions
--   returns 1, or 0 if there is one already, or no Gateway ever was
-- Atomic: of many nodes that sample at once, one finds the slot empty. The id is the slot on the server's clock. If that clock
-- was set back, samples with a date in the future would block every new one until then, so they are deleted.
--!include presence
--!include presence_counts
local SAMPLES = base .. 'samples'
local slot_ms, kept = tonumber(ARGV[1]), tonumber(ARGV[2])
if redis.call('EXISTS', LEASES) == 0 then
  return 0  -- the App may have been removed a moment ago
end
local slot = math.floor(now / slot_ms)

local function slot_of(entry)
  return tonumber(string.match(entry[1], '^%d+'))
end

local newest = redis.call('XREVRANGE', SAMPLES, '+', '-', 'COUNT', 1)[1]
if newest and slot_of(newest) > slot then
  -- The stream is deleted and filled again: it refuses ids below the highest it ever had, even if that entry was deleted.
  local past = redis.call('XRANGE', SAMPLES, '-', whole(slot) .. '-0')
  redis.call('DEL', SAMPLES)
  for _, entry in ipairs(past) do
    redis.call('XADD', SAMPLES, entry[1], unpack(entry[2]))
  end
  newest = past[#past]
end
if newest and slot_of(newest) == slot then
  return 0
end

local found = live_counts()
local by_pair = {}
for _, one in ipairs(found) do
  by_pair[one[1] .. ' ' .. one[2]] = one
end
for at = 6, #ARGV, 3 do
  local pair = ARGV[at] .. ' ' .. ARGV[at + 1]
  if not by_pair[pair] then
    by_pair[pair] = {ARGV[at], ARGV[at + 1], 0}
    found[#found + 1] = by_pair[pair]
  end
  by_pair[pair][3] = by_pair[pair][3] + tonumber(ARGV[at + 2])
end
table.sort(found, function(a, b)
  if a[3] ~= b[3] then
    return a[3] > b[3]
  end
  return a[1] < b[1] or (a[1] == b[1] and a[2] < b[2])
end)
local flat, others, order = {}, {}, {}
for at, one in ipairs(found) do
  if at <= tonumber(ARGV[3]) then
    flat[#flat + 1], flat[#flat + 2], flat[#flat + 3] = one[1], one[2], one[3]
  else
    -- Of no Gateway in particular; platforms past the bound are of none in particular either.
    local platform = one[2]
    if not others[platform] and #order >= tonumber(ARGV[4]) then
      platform = ''
    end
    if not others[platform] then
      others[platform], order[#order + 1] = 0, platform
    end
    others[platform] = others[platform] + one[3]
  end
end
for _, platform in ipairs(order) do
  flat[#flat + 1], flat[#flat + 2], flat[#flat + 3] = '', platform, others[platform]
end
redis.call('XADD', SAMPLES, 'MAXLEN', '=', kept, whole(slot) .. '-0', 't', whole(now),
  'u', redis.call('HLEN', SESSIONS) + ARGV[5], 'c', cmsgpack.pack(flat))
-- By then every one of them is too old to be asked for.
redis.call('PEXPIRE', SAMPLES, whole(2 * kept * slot_ms))
return 1
