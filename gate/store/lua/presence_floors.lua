-- Sets floors in place of all bars and floors that there are, as before everybody who is online is held against the facts.
--   KEYS  1 base
--   ARGV  1 slicing, as the caller knows it  2... Changelog epoch, seq below which no connect may be verified, ...
--   returns how many floors there are, 'stale' if the App is sliced otherwise
-- Atomic: no connect may find neither bar nor floor.
--!include presence
--!include bars
if slicing() ~= ARGV[1] then
  return 'stale'
end
redis.call('UNLINK', BARS, BARRED, FLOORS)
for at = 2, #ARGV, 2 do
  redis.call('HSET', FLOORS, ARGV[at], ARGV[at + 1])
end
return (#ARGV - 1) / 2
