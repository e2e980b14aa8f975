-- Says how an App's Presence is sliced, to one of its slices.
--   KEYS  1 base
--   ARGV  1 number of the mover that says so  2 slicing  3 what is to be appended to the growth stream, or ''
--         4 '1' for a slice in which Users begin to arrive: a feed from before slice 0 was lost is no part of this history
--         5 how many leases follow  6... Gateway, its lease as another slice has it, ...
--         then epoch of a Changelog, floor there, ...
--   returns 1; false if a later mover was here
-- Atomic: no caller opens a Session here under the new slicing before the leases and the floors of the old slices are here.
--!include presence
--!include bars
local MOVER, GROWTH = base .. 'mover', base .. 'growth'
local number = tonumber(ARGV[1])
if tonumber(redis.call('HGET', MOVER, 'number') or '0') > number then
  return false
end
redis.call('HSET', MOVER, 'number', ARGV[1])

-- Of two copies of a lease the higher epoch counts; of one epoch, the one that has ended.
local function merge_lease(gateway, packed)
  local known = lease(gateway)
  local epoch, beat, at, holds = string.match(packed, '^(%d+):(%d+):(%d+):(%d)$')
  epoch = tonumber(epoch)
  if known and (known.epoch > epoch or (known.epoch == epoch and (not known.holds or holds == '1'))) then
    return
  end
  if known and redis.call('EXISTS', base .. 'held:' .. whole(known.epoch) .. ':' .. gateway) == 1 then
    redis.call('SADD', base .. 'ending', whole(known.epoch) .. ':' .. gateway)
  end
  redis.call('HSET', LEASES, gateway, packed)
end

local last = 5 + 2 * tonumber(ARGV[5])
for at = 6, last, 2 do
  merge_lease(ARGV[at], ARGV[at + 1])
end
for at = last + 1, #ARGV, 2 do
  if tonumber(floor_of(ARGV[at])) < tonumber(ARGV[at + 1]) then
    redis.call('HSET', FLOORS, ARGV[at], ARGV[at + 1])
  end
end
if ARGV[3] ~= '' then
  redis.call('XADD', GROWTH, '*', 'g', ARGV[3])
end
if ARGV[4] == '1' and redis.call('EXISTS', SLICES) == 1 then
  redis.call('UNLINK', base .. 'feed', base .. 'feed-meta')
end
redis.call('SET', SLICES, ARGV[2])
return 1
