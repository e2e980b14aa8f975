-- Closes one Session, for the Gateway that holds it.
--   KEYS  1 base
--   ARGV  1 gateway  2 epoch  3 user  4 session  5 why
--   returns 1, 0 if there was none, or 'foreign' if another Gateway holds it
-- Atomic: the Session, its counts and the departure to announce are one.
--!include presence
local user = ARGV[3]
local kept, gone = {}, {}
for _, one in ipairs(sessions_of(user)) do
  if one[ID] == ARGV[4] then
    if one[GATEWAY] ~= ARGV[1] then
      return 'foreign'
    end
    if one[EPOCH] ~= tonumber(ARGV[2]) or not is_live(one) then
      return 0  -- it ended with the lease it was held under, and is being swept
    end
    gone[1] = {one, ARGV[5]}
  else
    kept[#kept + 1] = one
  end
end
if #gone == 0 then
  return 0
end
keep_without(user, kept, gone, FLAP_MS)
return 1
