-- Notes that Users were active just now.
--   KEYS  1 base
--   ARGV  1 slicing and 2 whether these Users move, as lib/slices.lua says
--         3... for each Session: user, session
--   returns for each: 1 if it is live, else 0, or where else the User is
--!include presence
--!include slices
--!include presence_changes
local FIRST, PARTS = 3, 2

local function touch(user, id)
  local sessions = sessions_of(user)
  for _, one in ipairs(sessions) do
    if one[ID] == id and is_live(one) then
      one[ACTIVE] = now
      keep_sessions(user, sessions)
      return 1
    end
  end
  return 0
end

local users, found = users_from(FIRST, PARTS), {}
find(users)
read(SESSIONS, sessions_by, users)
for nth, user in ipairs(users) do
  found[nth] = elsewhere[user] or touch(user, ARGV[FIRST + PARTS * (nth - 1) + 1])
end
write()
return found
