-- Reads the id of the Presence in this Redis, and gives it one if it has none.
--   KEYS  1 the id
--   ARGV  1 the id to give it, or '' for none
--   returns the id, or ''
-- Atomic: of two nodes that give it one, the second sees the first's.
if ARGV[1] ~= '' then
  redis.call('SET', KEYS[1], ARGV[1], 'NX')
end
return redis.call('GET', KEYS[1]) or ''
