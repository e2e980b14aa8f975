-- Whether Users are in this slice of their App's Presence. Put behind lib/presence.lua by scripts that are run for Users.
--   ARGV  1 slicing, as the caller knows it  2 '1' if these Users move from this slice to another one, else ''
--
-- Where a User is not here, nothing is done for it, and the reply is one of:
--   'stale'   the App is sliced otherwise: ask slice 0 how
--   'moving'  the User is under way to its new slice: try again in a moment
--   'moved'   it is in its new slice, for good
-- A User that moves is here as long as anything is kept of it here. What is not here stays away, so it needs no mark of its own.

local MOVING = base .. 'moving'
local TAKEN_SESSIONS, TAKEN_LEFT, TAKEN_SEEN, TAKEN_BAR, TAKEN_BARRED_AT = 1, 2, 3, 4, 5
local is_stale = slicing() ~= ARGV[1]

-- Of Users that are not here, by User: which of the three; and what was taken of those that are under way.
local elsewhere, taken = {}, {}

-- The User that each so many arguments begin with, from this one on.
local function users_from(first, parts)
  local users = {}
  for at = first, #ARGV, parts do
    users[#users + 1] = ARGV[at]
  end
  return users
end

local function find(users)
  if is_stale then
    for _, user in ipairs(users) do
      elsewhere[user] = 'stale'
    end
  elseif ARGV[2] == '1' then
    local is_here = {}
    for _, noun in ipairs({'sessions', 'left', 'seen', 'bars'}) do
      for at, kept in ipairs(redis.call('HMGET', base .. noun, unpack(users))) do
        is_here[at] = is_here[at] or kept
      end
    end
    for at, packed in ipairs(redis.call('HMGET', MOVING, unpack(users))) do
      local user = users[at]
      if packed then
        elsewhere[user], taken[user] = 'moving', cmsgpack.unpack(packed)
      elseif not is_here[at] then
        elsewhere[user] = 'moved'
      end
    end
  end
end

-- What was taken of a User that is under way, or nothing. It is frozen, so it can be read.
local function taken_of(user, part)
  local parts = taken[user]
  return parts and parts[part] ~= '' and parts[part]
end

local function readable(user)
  return not elsewhere[user] or taken[user]
end
