-- Says which Users have a live Session.
--   KEYS  1 base
--   ARGV  1 slicing and 2 whether these Users move, as lib/slices.lua says
--         3... Users
--   returns for each: 1 or 0, or where else the User is
-- A script so that leases and Sessions are of one moment. Writes nothing.
--!include presence
--!include slices
local MOST_SHORT = 0x9f  -- the first byte of an array of up to 15 Sessions, which takes no second one
local SESSION_AT = 2  -- then comes the first Session's, and its fields behind that

-- Most have one Session, and it is live: to take its first fields alone out of what is packed is half of all the work.
local function is_first_live(packed)
  if string.byte(packed) <= MOST_SHORT then
    local _, _, _, gateway, epoch = cmsgpack.unpack_limit(packed, EPOCH, SESSION_AT)
    return lease_holds(gateway, epoch)
  end
end

local function is_any_live(packed)
  for _, one in ipairs(cmsgpack.unpack(packed)) do
    if is_live(one) then
      return true
    end
  end
end

local users = users_from(3, 1)
find(users)
local online = {}
for at, packed in ipairs(redis.call('HMGET', SESSIONS, unpack(users))) do
  local user = users[at]
  packed = packed or taken_of(user, TAKEN_SESSIONS)
  if packed and not is_stale then
    online[at] = (is_first_live(packed) or is_any_live(packed)) and 1 or 0
  else
    online[at] = not readable(user) and elsewhere[user] or 0
  end
end
return online
