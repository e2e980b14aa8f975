-- Notes that Users were active just now.
--   KEYS  1 base
--   ARGV  user, session, user, session, ...
--   returns how many of them are live
--!include presence
--!include presence_changes
local users, found = {}, 0
for at = 1, #ARGV, 2 do
  users[#users + 1] = ARGV[at]
end
read(SESSIONS, sessions_by, users)
for nth, user in ipairs(users) do
  local sessions = sessions_of(user)
  for _, one in ipairs(sessions) do
    if one[ID] == ARGV[2 * nth] and is_live(one) then
      one[ACTIVE] = now
      keep_sessions(user, sessions)
      found = found + 1
    end
  end
end
write()
return found
