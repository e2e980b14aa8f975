-- Appends an audit entry for an action without a Change: it happened elsewhere, or is about to happen.
--   KEYS  1 audit
--   ARGV  1 the id of an entry that this one replaces, or ''  2 kind  3 by  4 why  5... fields, names and values
--   returns the id of the entry
-- Atomic: an order stays in the audit until its outcome replaces it.
local id = redis.call('XADD', KEYS[1], '*', 'k', ARGV[2], 'by', ARGV[3], 'why', ARGV[4], unpack(ARGV, 5))
if ARGV[1] ~= '' then
  redis.call('XDEL', KEYS[1], ARGV[1])
end
return id
