-- Raises floors, and drops bars that are old, some at a time.
--   KEYS  1 base
--   ARGV  1 how many bars at most  2... Changelog epoch, seq below which nobody may connect ('' for an epoch that is over), ...
--   returns how many bars were dropped
-- Atomic: a bar's place is taken by the floor that is raised to it.
--!include presence
--!include bars
for at = 2, #ARGV, 2 do
  raise_floor(ARGV[at], ARGV[at + 1] == '' and OVER or ARGV[at + 1])
end
return drop_bars(ARGV[1])
