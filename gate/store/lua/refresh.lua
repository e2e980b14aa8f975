-- Changes the name or portrait of one registered User. No verdict depends on them, so there is no Change.
--   KEYS  1 the User's facts
--   ARGV  1 name  2 portrait; '' to leave it, else '=' and the new one
--   returns 'ok', or 'unknown' or 'deactivated' with nothing written
-- Atomic: an erased User must not get a profile back.
if redis.call('HEXISTS', KEYS[1], 'd') == 1 then
  return 'deactivated'
end
if redis.call('HEXISTS', KEYS[1], 'r') == 0 then
  return 'unknown'
end
for field, text in pairs({n = ARGV[1], i = ARGV[2]}) do
  if text ~= '' then
    redis.call('HSET', KEYS[1], field, string.sub(text, 2))
  end
end
return 'ok'
