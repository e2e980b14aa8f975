-- Puts a dead letter back among the results to deliver, as if it were new.
--   KEYS  1 hooks  2 dead letters
--   ARGV  1 entry id of the dead letter
--   returns 1, or 0 if it was gone
-- Atomic: it is in one of the two streams at any moment, and two who replay it deliver it once.
local entry = redis.call('XRANGE', KEYS[2], ARGV[1], ARGV[1])[1]
if not entry then
  return 0
end
redis.call('XADD', KEYS[1], '*', unpack(entry[2], 5))  -- without its problem and its attempts, which come first
redis.call('XDEL', KEYS[2], ARGV[1])
return 1
