-- Sets floors in place of all bars and floors that there are, as before everybody who is online is held against the facts.
--   KEYS  1 base
--   ARGV  Changelog epoch, seq below which nobody may connect, ...
--   returns how many floors there are
-- Atomic: no connect may find neither bar nor floor.
--!include presence
--!include bars
redis.call('UNLINK', BARS, BARRED, FLOORS)
for at = 1, #ARGV, 2 do
  redis.call('HSET', FLOORS, ARGV[at], ARGV[at + 1])
end
return #ARGV / 2
