-- Drops leases that ended long ago, so that names which are used once do not add up.
--   KEYS  1 base
--   ARGV  1 for how long one that ended is kept, ms
--   returns how many were dropped
-- Atomic: a lease is dropped only if nothing is left under any epoch of its name. An old epoch that comes back later is taken for
-- a new one, and must not find a Session that would be live again.
--!include presence
local dropped = 0
if redis.call('EXISTS', base .. 'ending') == 1 then
  return dropped  -- Sessions of earlier epochs may be among those; the sweep is done in a moment
end
local packed = redis.call('HGETALL', LEASES)
for at = 1, #packed, 2 do
  local gateway = packed[at]
  local known = lease(gateway)
  if not known.holds then
    if known.at > now then
      -- Dated by a clock that was set back since: its day begins now, as it can't be known when it did.
      redis.call('HSET', LEASES, gateway, whole(known.epoch) .. ':' .. whole(known.beat) .. ':' .. whole(now) .. ':0')
    elseif now - known.at > tonumber(ARGV[1])
      and redis.call('EXISTS', base .. 'held:' .. whole(known.epoch) .. ':' .. gateway) == 0 then
      redis.call('HDEL', LEASES, gateway)
      dropped = dropped + 1
    end
  end
end
return dropped
