-- Notes a request of a session of the console, if the session still exists.
--   KEYS  1 sessions
--   ARGV  1 id
--   returns 1, or 0 if it does not exist
-- Atomic: a session that another request ends meanwhile must not be written again.
--!include console_sessions
local packed = redis.call('HGET', KEYS[1], ARGV[1])
if not packed then
  return 0
end
local session = cjson.decode(packed)
session['seen_at_ms'] = now_ms()
redis.call('HSET', KEYS[1], ARGV[1], cjson.encode(session))
return 1
