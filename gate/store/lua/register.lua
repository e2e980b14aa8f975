-- Registers Users of one Partition, and stores their names and portraits. A registered User keeps its moment.
--   KEYS  1 meta  2 log  3 users  4... one User's facts for each User
--   ARGV  1-5 as lib/append.lua  6 '1' to refuse if any of the Users is deactivated
--         7... for each User: id, registered at ms, name, portrait; the last two '' to leave them, else '=' and the new one
--   returns {seq, epoch}, the head even if no User was new, or {'deactivated', id...} with nothing written
-- Atomic: the fact, its index entry and its Change are written together; a deactivation can't happen in between.
--!include append
if ARGV[6] == '1' then
  local deactivated = {'deactivated'}
  for index = 4, #KEYS do
    if redis.call('HEXISTS', KEYS[index], 'd') == 1 then
      deactivated[#deactivated + 1] = ARGV[7 + (index - 4) * 4]
    end
  end
  if #deactivated > 1 then
    return deactivated
  end
end
open_log()
for index = 4, #KEYS do
  local at = 7 + (index - 4) * 4
  local id, registered_at, fields = ARGV[at], ARGV[at + 1], {}
  if redis.call('HEXISTS', KEYS[index], 'r') == 0 then
    append('user-registered', {'u', id, 'v', '1'})
    redis.call('ZADD', KEYS[3], registered_at, id)
    fields = {'r', registered_at}
  end
  for field, text in pairs({n = ARGV[at + 2], i = ARGV[at + 3]}) do
    if text ~= '' then
      fields[#fields + 1] = field
      fields[#fields + 1] = string.sub(text, 2)
    end
  end
  if #fields > 0 then
    redis.call('HSET', KEYS[index], unpack(fields))
  end
end
return close_log()
