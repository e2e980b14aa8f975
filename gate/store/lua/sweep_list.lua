-- Takes the entries that have ended off one owner's list.
--   KEYS  1 meta  2 log  3 entries  4 ends
--   ARGV  1-5 as lib/append.lua  6 Change kind of taking off  7 owner  8 how many at most
--   returns {how many were taken off}
-- Atomic: whether an entry has ended is asked here, as it may have been given another end since the caller looked.
--!include append
--!include members
local ended = redis.call('ZRANGEBYSCORE', KEYS[4], '-inf', ARGV[1], 'LIMIT', 0, ARGV[8])
if #ended == 0 then
  return {0}
end
open_log()
take_off(ARGV[6], ARGV[7], KEYS[3], KEYS[4], ended)
close_log()
return {#ended}
