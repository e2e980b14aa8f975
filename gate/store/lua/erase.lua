-- Deletes Users of one Partition: all of their own facts except the moment from which Tokens are valid, so that an old Token
-- can't become valid with the id. Entries on other Users' lists belong to their owners.
--   KEYS  1 meta  2 log  3 users  4 bans  5 mutes
--         6... for each User: facts, Blacklist entries and ends, Whitelist entries and ends
--   ARGV  1-5 as lib/append.lua  6 Tokens minted from here on are valid, ms  7... the Users' ids
--   returns {seq, epoch}, or {'deactivated', id...} with nothing written: deleting would undo the deactivation
-- Atomic: the facts, their index entries and the Change are written together.
--!include append
--!include tokens
local deactivated = {'deactivated'}
for index = 6, #KEYS, 5 do
  if redis.call('HEXISTS', KEYS[index], 'd') == 1 then
    deactivated[#deactivated + 1] = ARGV[7 + (index - 6) / 5]
  end
end
if #deactivated > 1 then
  return deactivated
end
open_log()
for index = 6, #KEYS, 5 do
  local id, facts = ARGV[7 + (index - 6) / 5], KEYS[index]
  if redis.call('EXISTS', facts, KEYS[index + 1], KEYS[index + 3]) > 0 then
    local from = whole(valid_from(facts, tonumber(ARGV[6])))
    append('user-erased', {'u', id})
    append('tokens-revoked', {'u', id, 'v', from}, false)
    redis.call('UNLINK', facts, KEYS[index + 1], KEYS[index + 2], KEYS[index + 3], KEYS[index + 4])
    for index_key = 3, 5 do
      redis.call('ZREM', KEYS[index_key], id)
    end
    redis.call('HSET', facts, 'v', from)
  end
end
return close_log()
