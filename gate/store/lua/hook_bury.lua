-- Gives a result up: moves it to the dead letters, with what was wrong at the last attempt.
--   KEYS  1 hooks  2 dead letters  3 the App's last outcome
--   ARGV  1 entry id  2 problem  3 attempts  4 about how many dead letters are kept
--   returns 1, or 0 if it was gone
-- Atomic: it is in one of the two streams at any moment.
--!include hook_outcome
local entry = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])[1]
redis.call('XACK', KEYS[1], 'webhooks', ARGV[1])
if not entry then
  return 0
end
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[4], '*', 'why', ARGV[2], 'n', ARGV[3], unpack(entry[2]))
redis.call('XDEL', KEYS[1], ARGV[1])
note_outcome(KEYS[3], 'dead', ARGV[2])
return 1
