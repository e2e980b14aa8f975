-- Removes entries from the lists of owners of one Partition. An entry that is not there gets a Change nevertheless: the answer
-- then has a Revision, and repeating the call is safe.
--   KEYS  1 meta  2 log  3... for each group: entries, ends
--   ARGV  1-5 as lib/append.lua  6 Change kind of the removal  7... for each group: owner, packed members
--   returns {seq, epoch}
-- Atomic: entries, ends and Change are written together.
--!include append
--!include members
open_log()
for index = 3, #KEYS, 2 do
  local at = 7 + index - 3
  take_off(ARGV[6], ARGV[at], KEYS[index], KEYS[index + 1], unpack_members(ARGV[at + 1]))
end
return close_log()
