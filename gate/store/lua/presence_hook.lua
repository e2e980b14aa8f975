-- Claims, moves on, gives back and forgets the telling of one App's presence webhook.
--   KEYS  1 base
--   ARGV  1 who  2 for how long, ms; '0' to give it back; '' to forget all of it, as where the App has no such webhook any more
--         3 cursor behind which the receiver is told from now on, or '' to leave it
--   returns {1 if it is this one's, else 0, cursor or ''}
-- Atomic: of two tellers one has it, and only that one moves the cursor. The server's clock ends a claim; one that ends later
-- than a claim can was dated by a clock that was set back since, and holds nobody up.
--!include presence
local HOOK, MOST_MS = base .. 'hook', 60000
local kept = redis.call('HMGET', HOOK, 'owner', 'until', 'cursor')
local owner, ends, cursor = kept[1], tonumber(kept[2] or '0'), kept[3] or ''
local is_held = ends > now and ends <= now + MOST_MS
if owner and owner ~= ARGV[1] and (is_held or ARGV[3] ~= '') then
  return {0, cursor}
end
if ARGV[2] == '' then
  redis.call('DEL', HOOK)
  return {1, ''}
end
redis.call('HSET', HOOK, 'owner', ARGV[1], 'until', whole(now + tonumber(ARGV[2])))
if ARGV[3] ~= '' then
  redis.call('HSET', HOOK, 'cursor', ARGV[3])
  cursor = ARGV[3]
end
return {1, cursor}
