-- Removes entries that have ended for good from one owner's list.
--   KEYS  1 meta  2 log  3 entries  4 ends
--   ARGV  1-5 as lib/append.lua  6 the latest end that is over, ms  7 Change kind of the removal  8 owner  9 maximum
--   returns {number of removed entries}
-- Atomic: the end is checked here, since the entry may have got another one after the caller's read.
--!include append
--!include members
--!include ended
local ended = redis.call('ZRANGEBYSCORE', KEYS[4], '-inf', over(ARGV[6]), 'LIMIT', 0, ARGV[9])
if #ended == 0 then
  return {0}
end
open_log()
take_off(ARGV[7], ARGV[8], KEYS[3], KEYS[4], ended)
close_log()
return {#ended}
