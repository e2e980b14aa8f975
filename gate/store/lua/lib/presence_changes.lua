-- Shared by all scripts that change Sessions. Included after lib/presence.lua.
--
-- A script runs for many Users at once. So it reads all of them together (`read`), changes the values in memory, and writes
-- them together (`write`): one command on the server costs as much as the rest of the work for a User. Between `read` and
-- `write`, changes are applied in order; each sees the result of the ones before.

local LEAVING, LEFT, FEED, FEED_META = base .. 'leaving', base .. 'left', base .. 'feed', base .. 'feed-meta'
local FEED_MAX_ENTRIES = 131072  -- some 15 MB; at 10,000 changes/s a reader may be away 13 s, at 100/s twenty minutes
local TRIM_EVERY = 128  -- entries: about as many as a node of the stream has, and only whole ones are dropped
local FLAP_MS = 1000  -- a departure shorter than this is never announced

-- By User, as read and as changed since; false if the User has no value.
local sessions_by, left_by, seen_by = {}, {}, {}
-- To be written by `write`: changed Users; Sessions to add, by field; by set and User, whether it is in; entries of the feed.
local sessions_changed, left_changed, seen_changed, counted, holding, entries = {}, {}, {}, {}, {}, {}

-- Reads the Users' values in a hash into `by`, once per script.
local function read(hash, by, users)
  local unknown = {}
  for _, user in ipairs(users) do
    if by[user] == nil then
      by[user] = false
      unknown[#unknown + 1] = user
    end
  end
  if #unknown > 0 then
    local packed = redis.call('HMGET', hash, unpack(unknown))
    for at, user in ipairs(unknown) do
      by[user] = packed[at] and cmsgpack.unpack(packed[at])
    end
  end
end

-- These two need a User that was read.
local function sessions_of(user)
  return sessions_by[user] or {}
end

local function keep_sessions(user, sessions)
  sessions_by[user], sessions_changed[user] = sessions, true
end

local function has_platform(sessions, platform)
  for _, one in ipairs(sessions) do
    if one[PLATFORM] == platform then
      return true
    end
  end
  return false
end

-- Returns a User's departures that are not announced yet, or nil: platform -> {when due, when it left, ...}.
local function left_of(user)
  return left_by[user] or nil
end

local function keep_left(user, left)
  left_by[user], left_changed[user] = left and next(left) and left or false, true
end

local whole_of = {}

-- Like `whole`, cached for numbers that many Users share: epochs, moments.
local function same_whole(number)
  local text = whole_of[number]
  if not text then
    text = whole(number)
    whole_of[number] = text
  end
  return text
end

local function count(session, by)
  local field = same_whole(session[EPOCH]) .. ':' .. session[PLATFORM] .. ':' .. session[GATEWAY]
  counted[field] = (counted[field] or 0) + by
end

-- Adds a User to the set of those with a Session under a lease, or removes it.
local function hold(held, user, is_in)
  local changes = holding[held]
  if not changes then
    changes = {}
    holding[held] = changes
  end
  changes[user] = is_in
end

local function held_key(session)
  return base .. 'held:' .. same_whole(session[EPOCH]) .. ':' .. session[GATEWAY]
end

local now_us = time[1] .. string.format('%06d', time[2])

-- Appends to the feed, see gate/core/presence.py. Only the User may contain a space, so it is the last part.
local function announce(kind, user, id, platform, gateway, ip, why, since)
  entries[#entries + 1] = kind .. ' ' .. now_us .. ' ' .. id .. ' ' .. platform .. ' ' .. gateway .. ' ' .. ip .. ' '
    .. why .. ' ' .. since .. ' ' .. user
end

local function announce_session(kind, user, session, why)
  announce(kind, user, session[ID], session[PLATFORM], session[GATEWAY], session[IP], why, '')
end

-- Keeps a User's Sessions. Removes the closed ones from the counts and the Gateways' sets, and records departures, which are
-- announced only if the User is not back on that platform after `delay_ms`.
--   gone: {{session, why}, ...}, at least one, that `sessions` does not have any more
local function keep_without(user, sessions, gone, delay_ms)
  if seen_by[user] == nil then
    read(SEEN, seen_by, {user})
  end
  -- The last activity is the User's, whichever of its Sessions it was on and in whatever order they ended.
  local last_seen, active = unpack(seen_by[user] or {0, 0})
  local left
  for _, one in ipairs(gone) do
    local session, why = one[1], one[2]
    count(session, -1)
    local still_held = false
    for _, other in ipairs(sessions) do
      still_held = still_held or other[GATEWAY] == session[GATEWAY] and other[EPOCH] == session[EPOCH]
    end
    if not still_held then
      hold(held_key(session), user, false)
    end
    if not has_platform(sessions, session[PLATFORM]) then
      left = left or left_of(user) or {}
      left[session[PLATFORM]] = {now + delay_ms, now, session[ID], session[GATEWAY], session[IP], why, session[SINCE]}
    end
    active = math.max(active, session[SINCE], session[ACTIVE] or 0)
  end
  if left then
    keep_left(user, left)
  end
  keep_sessions(user, sessions)
  seen_by[user], seen_changed[user] = {#sessions > 0 and last_seen or now, active}, true
end

local function call_with(command, key, values)
  if #values > 0 then
    redis.call(command, key, unpack(values))
  end
end

local function write_feed()
  local last = redis.call('HINCRBY', FEED_META, 'seq', #entries)
  local before = last - #entries
  if before == 0 then
    redis.call('DEL', FEED)  -- entries without a head belong to no history
    redis.call('HSET', FEED_META, 'epoch', string.format('%x', time[1]) .. string.format('%05x', time[2]))
  end
  for nth, entry in ipairs(entries) do
    redis.call('XADD', FEED, before + nth, 'e', entry)  -- the server adds '-0'
  end
  if last % TRIM_EVERY < #entries then
    redis.call('XTRIM', FEED, 'MAXLEN', '~', FEED_MAX_ENTRIES)
  end
  entries = {}
end

local function write_left()
  local put, due_at, dropped = {}, {}, {}
  for user in pairs(left_changed) do
    local left, due = left_by[user], math.huge
    if left then
      for _, departure in pairs(left) do
        due = math.min(due, departure[1])
      end
      put[#put + 1], put[#put + 2] = user, cmsgpack.pack(left)
      due_at[#due_at + 1], due_at[#due_at + 2] = same_whole(due), user
    else
      dropped[#dropped + 1] = user
    end
  end
  call_with('HSET', LEFT, put)
  call_with('ZADD', LEAVING, due_at)
  call_with('HDEL', LEFT, dropped)
  call_with('ZREM', LEAVING, dropped)
  left_changed = {}
end

-- Writes all changes.
local function write()
  local put, dropped = {}, {}
  for user in pairs(sessions_changed) do
    if #sessions_by[user] > 0 then
      put[#put + 1], put[#put + 2] = user, cmsgpack.pack(sessions_by[user])
    else
      dropped[#dropped + 1] = user
    end
  end
  call_with('HSET', SESSIONS, put)
  call_with('HDEL', SESSIONS, dropped)
  sessions_changed = {}
  for field, by in pairs(counted) do
    if by ~= 0 and redis.call('HINCRBY', COUNTS, field, by) <= 0 then
      redis.call('HDEL', COUNTS, field)
    end
  end
  counted = {}
  for held, changes in pairs(holding) do
    local added, removed = {}, {}
    for user, is_in in pairs(changes) do
      local some = is_in and added or removed
      some[#some + 1] = user
    end
    call_with('SADD', held, added)
    call_with('SREM', held, removed)
  end
  holding = {}
  local seen = {}
  for user in pairs(seen_changed) do
    seen[#seen + 1], seen[#seen + 2] = user, cmsgpack.pack(seen_by[user])
  end
  call_with('HSET', SEEN, seen)
  seen_changed = {}
  write_left()
  if #entries > 0 then
    write_feed()
  end
end

