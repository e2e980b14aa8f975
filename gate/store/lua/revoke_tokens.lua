-- Revokes the Tokens of Users of one Partition that were minted before a moment. Never makes a revoked one valid.
--   KEYS  1 meta  2 log  3... one User's facts for each User
--   ARGV  1-5 as lib/append.lua  6 the moment, ms; after now: all that were issued until now  7 how far after now, ms, a
--         moment still means now; past it no Token is minted before the moment  8... the Users' ids
--   returns {seq, epoch}
-- Atomic: of two revocations the later moment counts, in any order, and the Changelog has the same; a Token is minted before
-- or after.
--!include append
--!include tokens
local before = tonumber(ARGV[6])
open_log()
for index = 3, #KEYS do
  local from = whole(valid_from(KEYS[index], before))
  append('tokens-revoked', {'u', ARGV[8 + index - 3], 'v', from})
  redis.call('HSET', KEYS[index], 'v', from)
  if before > now + tonumber(ARGV[7]) and before > tonumber(redis.call('HGET', KEYS[index], 'h') or 0) then
    redis.call('HSET', KEYS[index], 'h', whole(before))
  end
end
return close_log()
