-- Revokes the Tokens of Users of one Partition that were minted before a moment. Never brings a revoked one back.
--   KEYS  1 meta  2 log  3... one User's facts for each User
--   ARGV  1-5 as lib/append.lua  6 the moment, ms  7... the Users' ids
--   returns {seq, epoch}
-- Atomic: of two revocations the later moment stands, whichever comes first, and the Changelog says the same.
--!include append
open_log()
for index = 3, #KEYS do
  local from = math.max(tonumber(ARGV[6]), tonumber(redis.call('HGET', KEYS[index], 'v') or 0))
  append('tokens-revoked', {'u', ARGV[7 + index - 3], 'v', whole(from)})
  redis.call('HSET', KEYS[index], 'v', whole(from))
end
return close_log()
