-- Removes a result from the stream: it was delivered, or its App has no webhook any more.
--   KEYS  1 hooks  2 the App's last outcome
--   ARGV  1 entry id  2 'delivered', or '' if its App has no webhook any more
--   returns 1, or 0 if it was gone
-- Atomic: an entry that was acknowledged but not deleted would never be read again.
--!include hook_outcome
redis.call('XACK', KEYS[1], 'webhooks', ARGV[1])
if ARGV[2] ~= '' then
  note_outcome(KEYS[2], ARGV[2], '')
end
return redis.call('XDEL', KEYS[1], ARGV[1])
