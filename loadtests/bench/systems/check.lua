-- The decision as a team would write it on ordinary Redis structures: what Gate is measured against.
-- ARGV: sender, recipient, now (Unix ms; passed in, since asking Redis for the time costs a call)
-- Returns 1 (may) or 0 (may not).
-- Facts: hash u:<id> with ban, mute (until, ms) and wl (whitelist on); zsets bl:<id>, wl:<id> member -> until, ms.
-- Keys are built here rather than passed: it is the faster of the two, and this is one server.
local now = tonumber(ARGV[3])
local sender = redis.call('HMGET', 'u:' .. ARGV[1], 'ban', 'mute')
if sender[1] and tonumber(sender[1]) > now then return 0 end
if sender[2] and tonumber(sender[2]) > now then return 0 end
if redis.call('HGET', 'u:' .. ARGV[2], 'wl') then
  local admitted = redis.call('ZSCORE', 'wl:' .. ARGV[2], ARGV[1])
  return admitted and tonumber(admitted) > now and 1 or 0
end
local blocked = redis.call('ZSCORE', 'bl:' .. ARGV[2], ARGV[1])
return blocked and tonumber(blocked) > now and 0 or 1
