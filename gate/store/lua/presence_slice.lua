-- Says how an App's Presence is sliced, to one of its slices.
--   KEYS  1 base
--   ARGV  1 number of the mover that says so  2 slicing  3 what the growth stream is to say: '' nothing, 'begun', or where each old
--         slice's feed ended, <epoch>-<seq> with spaces between
--         4 how many leases follow  5... Gateway, its lease as another slice has it, ...
--         then epoch of a Changelog, floor there, ...
--   returns 1, or 0 if a later mover was here
-- Atomic: nobody opens a Session here under the new slicing before the leases and the floors of the old slices are here.
--!include presence
--!include bars
local MOVER, GROWTH = base .. 'mover', base .. 'growth'
local number = tonumber(ARGV[1])
if tonumber(redis.call('HGET', MOVER, 'number') or '0') > number then
  return 0
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

local last = 4 + 2 * tonumber(ARGV[4])
for at = 5, last, 2 do
  merge_lease(ARGV[at], ARGV[at + 1])
end
for at = last + 1, #ARGV, 2 do
  if tonumber(floor_of(ARGV[at])) < tonumber(ARGV[at + 1]) then
    redis.call('HSET', FLOORS, ARGV[at], ARGV[at + 1])
  end
end
if ARGV[3] ~= '' then
  redis.call('XADD', GROWTH, '*', 'w', ARGV[2], 'h', ARGV[3] ~= 'begun' and ARGV[3] or '')
end
redis.call('SET', SLICES, ARGV[2])
return 1
