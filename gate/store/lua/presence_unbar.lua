-- Drops bars that are old, some at a time.
--   KEYS  1 base
--   ARGV  1 how many at most
--   returns how many were dropped
-- Atomic: a bar's place is taken by the floor that is raised to it.
--!include presence
--!include bars
return drop_bars(ARGV[1])
