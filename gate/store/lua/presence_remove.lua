-- Drops all of an App's Presence.
--   KEYS  1 base
--   ARGV  the nouns of all keys but those of who is held under a lease
--   returns how many keys there were
-- Atomic: a Session that opens meanwhile is either dropped here, or finds no lease.
local base, dropped = KEYS[1], 0
local leases = redis.call('HGETALL', base .. 'leases')
for at = 1, #leases, 2 do
  local epoch = string.match(leases[at + 1], '^%d+')
  dropped = dropped + redis.call('UNLINK', base .. 'held:' .. epoch .. ':' .. leases[at])
end
for _, ending in ipairs(redis.call('SMEMBERS', base .. 'ending')) do
  dropped = dropped + redis.call('UNLINK', base .. 'held:' .. ending)
end
for _, noun in ipairs(ARGV) do
  dropped = dropped + redis.call('UNLINK', base .. noun)
end
return dropped
