-- Reactivates Users of one Partition: their ids, not their facts.
--   KEYS  1 meta  2 log  3 gone  4 jobs  5 hooks  6... one User's facts for each User
--   ARGV  1-5 as lib/append.lua  6 operation  7 Users deactivated after this moment are too early, ms
--         8 '1' to refuse all if any is too early, '' to report each result by webhook  9... the Users' ids
--   returns {seq, epoch}, or {'refused', id, moment of deactivation, '1' while it is being erased or '0', ...} with nothing
--         written
-- Atomic: an erasure can't happen after the check and erase the User's new facts. Old Tokens stay revoked: the Changelog has
-- the revocation first, so that none of them is valid at any moment.
--!include append
--!include tokens
--!include hooks
local refused, early = {'refused'}, {}
for index = 6, #KEYS do
  local id = ARGV[9 + index - 6]
  local since = redis.call('HGET', KEYS[index], 'd')
  local is_erasing = redis.call('ZSCORE', KEYS[4], app .. ':' .. id)
  if since and (is_erasing or tonumber(since) > tonumber(ARGV[7])) then
    refused[#refused + 1] = id
    refused[#refused + 1] = since
    refused[#refused + 1] = is_erasing and '1' or '0'
    early[index] = true
  end
end
if #refused > 1 and ARGV[8] == '1' then
  return refused
end
open_log()
for index = 6, #KEYS do
  local id = ARGV[9 + index - 6]
  if early[index] then
    -- No change for this User.
  elseif redis.call('HEXISTS', KEYS[index], 'd') == 1 then
    local from = whole(valid_from(KEYS[index], now + 1))
    append('tokens-revoked', {'u', id, 'v', from}, false)
    if redis.call('HEXISTS', KEYS[index], 'r') == 1 then
      append('user-registered', {'u', id, 'v', '0'}, false)
    end
    append('user-reactivated', {'u', id})
    redis.call('HSET', KEYS[index], 'v', from)
    redis.call('HDEL', KEYS[index], 'd', 'o', 'r', 't')
    redis.call('ZREM', KEYS[3], id)
  else
    append('user-reactivated', {'u', id})
  end
  queue_result(KEYS[5], app, id, ARGV[6], '1', ARGV[1], early[index] and '1' or '0')
end
return close_log()
