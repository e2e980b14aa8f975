-- Takes or renews a Gateway's lease.
--   KEYS  1 base
--   ARGV  1 slicing, as the caller knows it  2 gateway  3 epoch, or '' for the one after the last
--         4 how many Gateways an App may have
--   returns {'ok', epoch, '1' if there was no lease of this epoch before}, or {'fenced', epoch of the lease that counts};
--           {'full', how many there are} for a name beyond that; {'stale'} if the App is sliced otherwise
-- Atomic: every later reader of the lease finds the Sessions of lower epochs ended, all of them at once.
--!include presence
if slicing() ~= ARGV[1] then
  return {'stale'}
end
local gateway, wanted = ARGV[2], ARGV[3]
local known = lease(gateway)
local epoch = wanted == '' and (known and known.epoch or 0) + 1 or tonumber(wanted)
if known and (epoch < known.epoch or (epoch == known.epoch and not known.holds)) then
  return {'fenced', whole(known.epoch)}
end
if not known and redis.call('HLEN', LEASES) >= tonumber(ARGV[4]) then
  return {'full', whole(redis.call('HLEN', LEASES))}
end
local is_new = not known or epoch > known.epoch
if known and is_new and redis.call('EXISTS', base .. 'held:' .. whole(known.epoch) .. ':' .. gateway) == 1 then
  redis.call('SADD', base .. 'ending', whole(known.epoch) .. ':' .. gateway)
end
local beat = known and known.beat + 1 or 1
redis.call('HSET', LEASES, gateway, whole(epoch) .. ':' .. whole(beat) .. ':' .. whole(now) .. ':1')
return {'ok', whole(epoch), is_new and '1' or '0'}
