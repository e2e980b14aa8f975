-- Releases places under an App's limit of Users.
--   KEYS  1 quota
--   ARGV  1 only those reserved at this moment or before, ms  2... ids
--   returns the number of released places
-- Atomic: a place that was reserved again meanwhile is kept.
local released = 0
for index = 2, #ARGV do
  local reserved_at = redis.call('ZSCORE', KEYS[1], ARGV[index])
  if reserved_at and tonumber(reserved_at) <= tonumber(ARGV[1]) then
    released = released + redis.call('ZREM', KEYS[1], ARGV[index])
  end
end
return released
