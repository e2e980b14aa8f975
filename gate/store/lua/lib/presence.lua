-- What every script of Presence shares. Put in front of each.
--
-- KEYS[1] is what all keys of one App's Presence begin with, `gate:{<app>}:`; the nouns are added here, so that all of them
-- lie in the slot of that tag. See gate/store/presence_keys.py for the keys and how values are packed.
--
-- A Session is live while its Gateway's lease is of the Session's epoch and has not ended. The clock is the server's own; it
-- dates things, and decides nothing but how soon a departure is announced.

local base = KEYS[1]
local LEASES, SESSIONS, COUNTS = base .. 'leases', base .. 'sessions', base .. 'counts'
local LEAVING, LEFT, SEEN = base .. 'leaving', base .. 'left', base .. 'seen'
local FEED, FEED_META = base .. 'feed', base .. 'feed-meta'

local FEED_MAX_ENTRIES = 131072  -- some 15 MB; at 10,000 changes/s a reader may be away 13 s, at 100/s twenty minutes
local ID, PLATFORM, GATEWAY, EPOCH, SINCE, IP, MINTED, ACTIVE = 1, 2, 3, 4, 5, 6, 7, 8

local function whole(number)
  return string.format('%.0f', number)
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local now_us = time[1] .. string.format('%06d', time[2])

local lease_of = {}

-- The lease of a Gateway: epoch, beat, renewed at, '1' or '0'; nothing if there is none. Read once a script.
local function lease(gateway)
  local known = lease_of[gateway]
  if known == nil then
    local packed = redis.call('HGET', LEASES, gateway)
    known = false
    if packed then
      local epoch, beat, at, holds = string.match(packed, '^(%d+):(%d+):(%d+):(%d)$')
      known = {epoch = tonumber(epoch), beat = tonumber(beat), at = tonumber(at), holds = holds == '1'}
    end
    lease_of[gateway] = known
  end
  return known
end

local function is_live(session)
  local held_by = lease(session[GATEWAY])
  return held_by and held_by.holds and held_by.epoch == session[EPOCH]
end

local function sessions_of(user)
  local packed = redis.call('HGET', SESSIONS, user)
  return packed and cmsgpack.unpack(packed) or {}
end

local function held_key(session)
  return base .. 'held:' .. whole(session[EPOCH]) .. ':' .. session[GATEWAY]
end

local function count(session, by)
  local field = whole(session[EPOCH]) .. ':' .. session[PLATFORM] .. ':' .. session[GATEWAY]
  if redis.call('HINCRBY', COUNTS, field, by) <= 0 then
    redis.call('HDEL', COUNTS, field)
  end
end

-- Appends to the feed; `fields` are those of gate/core/presence.py after t, a flat list of names and values.
local function tell(kind, fields)
  local seq = redis.call('HINCRBY', FEED_META, 'seq', 1)
  if seq == 1 then
    redis.call('DEL', FEED)  -- entries without a head belong to no history
    redis.call('HSET', FEED_META, 'epoch', string.format('%x', time[1]) .. string.format('%05x', time[2]))
  end
  redis.call('XADD', FEED, 'MAXLEN', '~', FEED_MAX_ENTRIES, whole(seq) .. '-0', 'k', kind, 't', now_us, unpack(fields))
end

local function tell_of(kind, user, session, why)
  tell(kind, {'u', user, 's', session[ID], 'p', session[PLATFORM], 'g', session[GATEWAY], 'i', session[IP], 'w', why})
end

local function left_of(user)
  local packed = redis.call('HGET', LEFT, user)
  return packed and cmsgpack.unpack(packed) or nil
end

local function has_platform(sessions, platform)
  for _, one in ipairs(sessions) do
    if one[PLATFORM] == platform then
      return true
    end
  end
  return false
end

-- Writes a User's departures back, and when the oldest is due.
local function keep_left(user, left)
  local due
  for _, departure in pairs(left or {}) do
    due = math.min(due or departure[1], departure[1])
  end
  if due then
    redis.call('HSET', LEFT, user, cmsgpack.pack(left))
    redis.call('ZADD', LEAVING, whole(due), user)
  else
    redis.call('HDEL', LEFT, user)
    redis.call('ZREM', LEAVING, user)
  end
end

-- Writes a User's Sessions back. Takes what is no longer there off the counts and the Gateways' sets, and notes departures,
-- which are announced only if the User is not back on that platform a moment later.
--   gone: {{session, why}, ...}, at least one, that `sessions` does not hold any more   delay_ms: that moment
local function keep_without(user, sessions, gone, delay_ms)
  local left
  for _, one in ipairs(gone) do
    local session, why = one[1], one[2]
    count(session, -1)
    local still_held = false
    for _, other in ipairs(sessions) do
      still_held = still_held or other[GATEWAY] == session[GATEWAY] and other[EPOCH] == session[EPOCH]
    end
    if not still_held then
      redis.call('SREM', held_key(session), user)
    end
    if not has_platform(sessions, session[PLATFORM]) then
      left = left or left_of(user) or {}
      left[session[PLATFORM]] = {now + delay_ms, now, session[ID], session[GATEWAY], session[IP], why, session[SINCE]}
    end
  end
  if left then
    keep_left(user, left)
  end
  if #sessions > 0 then
    redis.call('HSET', SESSIONS, user, cmsgpack.pack(sessions))
  else
    redis.call('HDEL', SESSIONS, user)
  end
  -- The last activity is the User's, whichever of its Sessions it was on and in whatever order they ended.
  local seen = redis.call('HGET', SEEN, user)
  local last_seen, active = unpack(seen and cmsgpack.unpack(seen) or {0, 0})
  for _, one in ipairs(gone) do
    active = math.max(active, one[1][SINCE], one[1][ACTIVE] or 0)
  end
  redis.call('HSET', SEEN, user, cmsgpack.pack({#sessions > 0 and last_seen or now, active}))
end

local FLAP_MS = 1000  -- a departure shorter than this is never announced
