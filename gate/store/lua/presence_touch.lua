-- Notes that Users were active just now.
--   KEYS  1 base
--   ARGV  user, session, user, session, ...
--   returns how many of them are live
--!include presence
local found = 0
for at = 1, #ARGV, 2 do
  local sessions = sessions_of(ARGV[at])
  for _, one in ipairs(sessions) do
    if one[ID] == ARGV[at + 1] and is_live(one) then
      one[ACTIVE] = now
      redis.call('HSET', SESSIONS, ARGV[at], cmsgpack.pack(sessions))
      found = found + 1
    end
  end
end
return found
