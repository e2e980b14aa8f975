-- Takes, renews or gives back the right to move Users between the slices of an App's Presence. It is kept in slice 0.
--   KEYS  1 base
--   ARGV  1 number that the caller has, or '' to take the next one  2 the least that the next one may be
--         3 '1' to give it back, so that another process need not wait
--   returns {number, how often it was renewed}; false if a later mover took it
-- Atomic: of two that take it, each gets a number of its own, and the slices refuse the lower one (presence_slice.lua).
local MOVER = KEYS[1] .. 'mover'
local number = tonumber(redis.call('HGET', MOVER, 'number') or '0')
if ARGV[1] == '' then
  number = math.max(number + 1, tonumber(ARGV[2]))
  redis.call('HSET', MOVER, 'number', number, 'beat', 0)
elseif number ~= tonumber(ARGV[1]) then
  return false
end
if ARGV[3] == '1' then
  redis.call('HSET', MOVER, 'beat', 0)
  return {number, 0}
end
return {number, redis.call('HINCRBY', MOVER, 'beat', 1)}
