-- Ends a Gateway's lease, if it is still as it was when it was last seen to move.
--   KEYS  1 base
--   ARGV  1 gateway  2 epoch  3 beat, or '' to end it whatever its beat, as a Gateway that leaves does
--   returns 1, or 0 if it was renewed meanwhile, or is another's
-- Atomic: re-reading the lease and ending it must not be apart, or a renewal in between would be lost.
--!include presence
local gateway, known = ARGV[1], lease(ARGV[1])
if not known or not known.holds or known.epoch ~= tonumber(ARGV[2]) or (ARGV[3] ~= '' and known.beat ~= tonumber(ARGV[3])) then
  return 0
end
redis.call('HSET', LEASES, gateway, ARGV[2] .. ':' .. whole(known.beat) .. ':' .. whole(now) .. ':0')
if redis.call('EXISTS', base .. 'held:' .. ARGV[2] .. ':' .. gateway) == 1 then
  redis.call('SADD', base .. 'ending', ARGV[2] .. ':' .. gateway)
end
return 1
