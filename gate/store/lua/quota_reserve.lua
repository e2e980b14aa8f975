-- Reserves places under an App's limit of Users.
--   KEYS  1 quota
--   ARGV  1 the limit  2 now, ms  3... ids
--   returns the ids for which there is no place; an id with a place keeps it
-- Atomic: of many concurrent registrations, exactly as many as fit get a place.
local refused = {}
for index = 3, #ARGV do
  if redis.call('ZSCORE', KEYS[1], ARGV[index]) or redis.call('ZCARD', KEYS[1]) < tonumber(ARGV[1]) then
    redis.call('ZADD', KEYS[1], ARGV[2], ARGV[index])
  else
    refused[#refused + 1] = ARGV[index]
  end
end
return refused
