-- Keeps a new session of the console, and deletes those that have ended.
--   KEYS  1 sessions  2 revoked cookies of version 0.6, which are no longer read
--   ARGV  1 id  2 the session as JSON, without times  3 how long it may last, ms  4 how long it may be idle, ms
--         5 how many sessions there may be  6 how many of one operator
--   returns nothing of use
-- Atomic: sessions that are opened concurrently must not exceed the limit together.
--!include console_sessions
local now = now_ms()
local kept = remaining(KEYS[1], now, tonumber(ARGV[4]))
local session, own = cjson.decode(ARGV[2]), {}
table.sort(kept, function(a, b) return a.seen_at_ms < b.seen_at_ms end)
for _, one in ipairs(kept) do
  if one.operator == session['operator'] then
    own[#own + 1] = one
  end
end
-- At the limit the session whose last request is the oldest gives way, so that a new sign-in always succeeds. An operator's
-- own limit comes first: one that signs in over and over ends no session of another.
local full, most = kept, tonumber(ARGV[5])
if #own >= tonumber(ARGV[6]) then
  full, most = own, tonumber(ARGV[6])
end
for i = 1, #full - most + 1 do
  redis.call('HDEL', KEYS[1], full[i].id)
end
session['started_at_ms'], session['seen_at_ms'], session['until_ms'] = now, now, now + tonumber(ARGV[3])
redis.call('HSET', KEYS[1], ARGV[1], cjson.encode(session))
redis.call('DEL', KEYS[2])
return 'ok'
