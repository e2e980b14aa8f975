-- Takes entries off the lists of owners of one Partition. Taking off what is not there is a Change all the same: the answer
-- then has a Revision, and repeating the call is safe.
--   KEYS  1 meta  2 log  3... for each group: entries, ends
--   ARGV  1-5 as lib/append.lua  6 Change kind of taking off  7... for each group: owner, packed members
--   returns {seq, epoch}
-- Atomic: entries, ends and Change are one.
--!include append
--!include members
open_log()
for index = 3, #KEYS, 2 do
  local at = 7 + index - 3
  take_off(ARGV[6], ARGV[at], KEYS[index], KEYS[index + 1], unpack_members(ARGV[at + 1]))
end
return close_log()
