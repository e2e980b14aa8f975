-- Bans or mutes Users of one Partition. A later penalty replaces an earlier one, whether longer or shorter.
--   KEYS  1 meta  2 log  3 bans or mutes  4... one User's facts for each User
--   ARGV  1-5 as lib/append.lua  6 Change kind  7-9 fields: until, why, by
--         10 what to do with deactivated Users: 'refuse' all if there is one, 'skip' them, or 'take' them like any other
--         11... for each User: id, until ms, why, by
--   returns {seq, epoch, the skipped ids...}, or {'deactivated', id...} with nothing written
-- Atomic: the fact, its index entry and its Change are written together; a deactivation can't happen in between.
--!include append
local active, deactivated = {}, {'deactivated'}
for index = 4, #KEYS do
  if ARGV[10] ~= 'take' and redis.call('HEXISTS', KEYS[index], 'd') == 1 then
    deactivated[#deactivated + 1] = ARGV[11 + (index - 4) * 4]
  else
    active[#active + 1] = index
  end
end
if #deactivated > 1 and (ARGV[10] == 'refuse' or #active == 0) then
  return deactivated
end
open_log()
for _, index in ipairs(active) do
  local at = 11 + (index - 4) * 4
  local id, ends_at, why, by = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  append(ARGV[6], {'u', id, 'e', ends_at})
  local fields, dropped = {ARGV[7], ends_at}, {}
  for field, text in pairs({[ARGV[8]] = why, [ARGV[9]] = by}) do
    if text == '' then
      dropped[#dropped + 1] = field
    else
      fields[#fields + 1] = field
      fields[#fields + 1] = text
    end
  end
  if redis.call('HSET', KEYS[index], unpack(fields)) * 2 < #fields and #dropped > 0 then
    -- HSET returned fewer new fields than it set, so an earlier penalty's reason or actor may exist.
    redis.call('HDEL', KEYS[index], unpack(dropped))
  end
  redis.call('ZADD', KEYS[3], ends_at, id)
end
local reply = close_log()
for index = 2, #deactivated do
  reply[#reply + 1] = deactivated[index]
end
return reply
