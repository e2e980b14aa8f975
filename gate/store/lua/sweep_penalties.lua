-- Removes Bans or Mutes of one Partition that have ended for good.
--   KEYS  1 meta  2 log  3 bans or mutes  4... one User's facts for each User
--   ARGV  1-5 as lib/append.lua  6 the latest end that is over, ms  7 Change kind of lifting  8-10 fields: until, why, by
--         11... the Users' ids
--   returns {number of removed penalties}
-- Atomic: the end is checked again here, since the penalty may have been imposed again after the caller's read.
--!include append
--!include ended
local before, ended = tonumber(over(ARGV[6])), {}
for index = 4, #KEYS do
  local id = ARGV[11 + index - 4]
  local ends_at = redis.call('ZSCORE', KEYS[3], id)
  if ends_at and tonumber(ends_at) <= before then
    ended[#ended + 1] = {KEYS[index], id}
  end
end
if #ended == 0 then
  return {0}
end
open_log()
for _, pair in ipairs(ended) do
  append(ARGV[7], {'u', pair[2]})
  redis.call('HDEL', pair[1], ARGV[8], ARGV[9], ARGV[10])
  redis.call('ZREM', KEYS[3], pair[2])
end
close_log()
return {#ended}
