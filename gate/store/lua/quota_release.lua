-- Gives back places among the Users that an App may have.
--   KEYS  1 quota
--   ARGV  1 only those reserved at this moment or before, ms  2... ids
--   returns how many were given back
-- Atomic: one that was reserved anew meanwhile is kept.
local released = 0
for index = 2, #ARGV do
  local reserved_at = redis.call('ZSCORE', KEYS[1], ARGV[index])
  if reserved_at and tonumber(reserved_at) <= tonumber(ARGV[1]) then
    released = released + redis.call('ZREM', KEYS[1], ARGV[index])
  end
end
return released
