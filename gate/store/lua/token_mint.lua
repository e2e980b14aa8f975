-- Issues and records the moment of a User's next Token, and changes the name and portrait if they are given.
--   KEYS  1 the User's facts
--   ARGV  1 now, ms  2 name  3 portrait; '' to leave it, else '=' and the new one
--   returns {'ok', minted at, ms}, or {'deactivated'}, {'held', until, ms} or {'unknown'} with nothing written
-- Atomic: a later revocation covers the recorded moment; after an earlier one, the moment is valid.
local facts = redis.call('HMGET', KEYS[1], 'd', 'h', 'r', 'v', 't')
if facts[1] then
  return {'deactivated'}
end
if facts[2] and tonumber(facts[2]) > tonumber(ARGV[1]) then
  return {'held', facts[2]}
end
if not facts[3] then
  return {'unknown'}
end
local minted_at = math.max(tonumber(ARGV[1]), tonumber(facts[4] or 0))
local fields = {}
if minted_at > tonumber(facts[5] or 0) then
  fields = {'t', string.format('%.0f', minted_at)}
end
for field, text in pairs({n = ARGV[2], i = ARGV[3]}) do
  if text ~= '' then
    fields[#fields + 1] = field
    fields[#fields + 1] = string.sub(text, 2)
  end
end
if #fields > 0 then
  redis.call('HSET', KEYS[1], unpack(fields))
end
return {'ok', string.format('%.0f', minted_at)}
