-- Shared by all scripts of Presence. Included first.
--
-- KEYS[1] is the prefix of all keys of one slice of an App's Presence, `gate:{<app>}:` or `gate:{<app>/<slice>}:`; the nouns
-- are added here, so that all of them are in the slot of that tag. See gate/store/presence_keys.py for the keys and the
-- packing of values.
--
-- A Session is live while its Gateway's lease has the Session's epoch and has not ended. The clock is the server's own; it
-- dates entries, and decides only how soon a departure is announced.

local base = KEYS[1]
local LEASES, SESSIONS, COUNTS, SEEN = base .. 'leases', base .. 'sessions', base .. 'counts', base .. 'seen'
local SLICES = base .. 'slices'
local ID, PLATFORM, GATEWAY, EPOCH, SINCE, IP, MINTED, ACTIVE = 1, 2, 3, 4, 5, 6, 7, 8

local function whole(number)
  return string.format('%.0f', number)
end

-- How the App's Presence is sliced, as this slice knows it; see gate/core/slices.py.
local function slicing()
  return redis.call('GET', SLICES) or '1'
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local lease_of = {}

-- Returns a Gateway's lease {epoch, beat, at (of the last renewal), holds}, or false. Reads it once per script.
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

local function lease_holds(gateway, epoch)
  local held_by = lease(gateway)
  return held_by and held_by.holds and held_by.epoch == epoch
end

local function is_live(session)
  return lease_holds(session[GATEWAY], session[EPOCH])
end
