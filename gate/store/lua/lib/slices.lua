-- Whether Users are in this slice of their App's Presence. Included after lib/presence.lua by scripts for Users.
--   ARGV  1 slicing, as the caller knows it  2 '1' if these Users move from this slice to another one, else ''
--
-- For a User that is not here, nothing is done, and the reply is one of:
--   'stale'   the App is sliced differently: ask slice 0
--   'moving'  the User is moving to its new slice: try again shortly
--   'moved'   it is in its new slice permanently
-- A moving User is here as long as any of its data is here. Data that has moved never returns, so it needs no mark of its own.

local MOVING = base .. 'moving'
local TAKEN_SESSIONS, TAKEN_LEFT, TAKEN_SEEN, TAKEN_BAR, TAKEN_BARRED_AT = 1, 2, 3, 4, 5
local is_stale = slicing() ~= ARGV[1]

-- For Users that are not here: which of the three; and the data taken of those that are moving.
local elsewhere, taken = {}, {}

-- The first of every `parts` arguments, from `first` on: the Users.
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

-- The data taken of a moving User, or nothing. It is frozen, so it may be read.
local function taken_of(user, part)
  local parts = taken[user]
  return parts and parts[part] ~= '' and parts[part]
end

local function readable(user)
  return not elsewhere[user] or taken[user]
end
