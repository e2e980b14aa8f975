-- Drops what is kept of Users that have no Session.
--   KEYS  1 base
--   ARGV  1 slicing and 2 whether these Users move, as lib/slices.lua says
--         3... Users
--   returns for each: 1, 0 if there was nothing, or where else the User is
--!include presence
--!include slices
local users, dropped = users_from(3, 1), {}
find(users)
for nth, user in ipairs(users) do
  dropped[nth] = elsewhere[user] or redis.call('HDEL', SEEN, user)
end
return dropped
