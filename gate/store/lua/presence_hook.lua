-- Claims, renews, gives back or deletes one node's claim to deliver an App's presence webhook.
--   KEYS  1 base
--   ARGV  1 node  2 '1' to claim or renew; '0' to give the claim back; '' to delete claim and cursor, if the App no longer
--         has such a webhook  3 cursor to store, after the last delivered entry, or '' to leave it
--         4 claim of another node that the caller may take over, or ''
--   returns {1 if the caller has the claim, else 0, cursor or '', the current claim or ''}
-- Atomic: only one of two nodes has the claim, and only that node moves the cursor. No clock ends a claim: each renewal changes
-- it, and a node that saw it unchanged for long enough on its own monotonic clock takes it over (gate/store/clocks.py).
--!include presence
local HOOK = base .. 'hook'
local kept = redis.call('HMGET', HOOK, 'owner', 'beat', 'free', 'cursor')
local owner, beat, cursor = kept[1], tonumber(kept[2] or '0'), kept[4] or ''
if owner and owner ~= ARGV[1] then
  local claim = whole(beat) .. ' ' .. owner
  local is_held = kept[3] ~= '1' and claim ~= ARGV[4]
  if is_held or ARGV[3] ~= '' then
    return {0, cursor, claim}
  end
end
if ARGV[2] == '' then
  redis.call('DEL', HOOK)
  return {1, '', ''}
end
redis.call('HSET', HOOK, 'owner', ARGV[1], 'beat', whole(beat + 1), 'free', ARGV[2] == '0' and '1' or '0')
if ARGV[3] ~= '' then
  redis.call('HSET', HOOK, 'cursor', ARGV[3])
  cursor = ARGV[3]
end
return {1, cursor, whole(beat + 1) .. ' ' .. ARGV[1]}
