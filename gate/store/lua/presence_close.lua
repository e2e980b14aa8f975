-- Closes Sessions, for the Gateway that holds them.
--   KEYS  1 base
--   ARGV  1 slicing and 2 whether these Users move, as lib/slices.lua says
--         3 gateway  4 epoch  5 why  6... for each Session: user, session
--   returns for each: 1, 0 if there was none, 'foreign' if another Gateway holds it, or where else the User is
-- Atomic: the Session, its counts and the departure to announce are one. As if each were closed by itself.
--!include presence
--!include slices
--!include presence_changes
local gateway, epoch, why = ARGV[3], tonumber(ARGV[4]), ARGV[5]
local FIRST, PARTS = 6, 2

local function close(user, id)
  local kept, gone = {}, {}
  for _, one in ipairs(sessions_of(user)) do
    if one[ID] == id then
      if one[GATEWAY] ~= gateway then
        return 'foreign'
      end
      if one[EPOCH] ~= epoch or not is_live(one) then
        return 0  -- it ended with the lease it was held under, and is being swept
      end
      gone[1] = {one, why}
    else
      kept[#kept + 1] = one
    end
  end
  if #gone == 0 then
    return 0
  end
  keep_without(user, kept, gone, FLAP_MS)
  return 1
end

local users, closed = users_from(FIRST, PARTS), {}
find(users)
read(SESSIONS, sessions_by, users)
read(LEFT, left_by, users)
read(SEEN, seen_by, users)
for nth, user in ipairs(users) do
  closed[nth] = elsewhere[user] or close(user, ARGV[FIRST + PARTS * (nth - 1) + 1])
end
write()
return closed
