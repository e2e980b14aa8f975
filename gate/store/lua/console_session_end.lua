-- Ends sessions of the console.
--   KEYS  1 sessions  2 deployment audit
--   ARGV  1 by  2 why  3 origin  4 '1' for an entry in the audit for each operator whose sessions end  5... ids
--   returns how many of them there were
-- Atomic: what ended is what the audit has.
--!include deployment_audit
local ended, many_of, names = 0, {}, {}
for at = 5, #ARGV do
  local packed = redis.call('HGET', KEYS[1], ARGV[at])
  if packed then
    redis.call('HDEL', KEYS[1], ARGV[at])
    local name = cjson.decode(packed)['operator']
    if not many_of[name] then
      names[#names + 1] = name
    end
    many_of[name] = (many_of[name] or 0) + 1
    ended = ended + 1
  end
end
if ARGV[4] == '1' then
  for _, name in ipairs(names) do
    local value = '{"sessions":' .. many_of[name] .. '}'
    audit_deployment(KEYS[2], 'console-sessions-ended', name, ARGV[1], ARGV[2], ARGV[3], value)
  end
end
return ended
