-- Appends to the audit what no Change tells: it was done elsewhere, or is about to be.
--   KEYS  1 audit
--   ARGV  1 the id of an entry that this one takes the place of, or ''  2 kind  3 by  4 why  5... fields, names and values
--   returns the id of the entry
-- Atomic: what was ordered is in the audit until what came of it is.
local id = redis.call('XADD', KEYS[1], '*', 'k', ARGV[2], 'by', ARGV[3], 'why', ARGV[4], unpack(ARGV, 5))
if ARGV[1] ~= '' then
  redis.call('XDEL', KEYS[1], ARGV[1])
end
return id
