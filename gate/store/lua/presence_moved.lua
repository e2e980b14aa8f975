-- Lets go of Users who are in their new slice.
--   KEYS  1 base
--   ARGV  1 number of the mover  2... Users
--   returns how many; false if a later mover was here
if redis.call('HGET', KEYS[1] .. 'mover', 'number') ~= ARGV[1] then
  return false
end
return redis.call('HDEL', KEYS[1] .. 'moving', unpack(ARGV, 2))
