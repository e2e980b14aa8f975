-- Claims, moves on and gives back the telling of one App's presence webhook.
--   KEYS  1 base
--   ARGV  1 who  2 for how long, ms, or '0' to give it back  3 cursor to write, or ''  4 attempts that failed, or ''
--   returns {cursor or '', attempts, '1' if it is this one's}
-- Atomic: of two tellers one has it, and only that one moves the cursor.
--!include presence
local HOOK = base .. 'hook'
local kept = redis.call('HMGET', HOOK, 'owner', 'until', 'cursor', 'attempts')
if kept[1] and kept[1] ~= ARGV[1] and kept[2] and tonumber(kept[2]) > now and tonumber(kept[2]) < now + 3600000 then
  return {kept[3] or '', tonumber(kept[4] or '0'), '0'}
end
redis.call('HSET', HOOK, 'owner', ARGV[1], 'until', whole(now + tonumber(ARGV[2])))
if ARGV[3] ~= '' then
  redis.call('HSET', HOOK, 'cursor', ARGV[3])
end
if ARGV[4] ~= '' then
  redis.call('HSET', HOOK, 'attempts', ARGV[4])
end
kept = redis.call('HMGET', HOOK, 'cursor', 'attempts')
return {kept[1] or '', tonumber(kept[2] or '0'), '1'}
