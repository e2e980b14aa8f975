-- Fences against connects that were verified on facts from before a Change that closed Sessions. Included after `presence`.
--
-- A closed User's fence ("bar") names the Change. After a minute, far longer than any connect takes, it is deleted, and the floor
-- of its Changelog's epoch is raised to it: a Replica that lags longer than that is behind the floor, for every User.

local BARS, BARRED, FLOORS = base .. 'bars', base .. 'barred', base .. 'floors'
local BAR_MS = 60000

local bars_by, floor_by = {}, {}

-- Reads the fences of Users in one call. Later functions accept only Users whose fences were read.
local function read_bars(users)
  local packed = redis.call('HMGET', BARS, unpack(users))
  for at, user in ipairs(users) do
    bars_by[user] = packed[at]
  end
end

local function bar_of(user)
  if bars_by[user] then
    return string.match(bars_by[user], '^(%x+):(%d+)$')
  end
end

local function floor_of(epoch)
  local floor = floor_by[epoch]
  if not floor then
    floor = redis.call('HGET', FLOORS, epoch) or '0'
    floor_by[epoch] = floor
  end
  return floor
end

local function is_barred(user, epoch, seq)
  local bar_epoch, bar_seq = bar_of(user)
  if bar_epoch and (bar_epoch ~= epoch or tonumber(bar_seq) > seq) then
    return true
  end
  return tonumber(floor_of(epoch)) > seq
end

-- Deletes up to `most` fences that are old, or of a clock that was set back since. Returns their number; 0 while Users move to
-- other slices: the replacing floor is raised only in this slice, and a User who is fenced here might connect there.
local function drop_bars(most)
  if string.find(slicing(), '>', 1, true) then
    return 0
  end
  local users = redis.call('ZRANGEBYSCORE', BARRED, '-inf', '(' .. whole(now - BAR_MS), 'LIMIT', 0, most)
  if #users == 0 then
    users = redis.call('ZRANGEBYSCORE', BARRED, '(' .. whole(now + BAR_MS), '+inf', 'LIMIT', 0, most)
  end
  if #users > 0 then
    read_bars(users)
    for _, user in ipairs(users) do
      local epoch, seq = bar_of(user)
      if epoch and tonumber(floor_of(epoch)) < tonumber(seq) then
        redis.call('HSET', FLOORS, epoch, seq)
        floor_by[epoch] = seq
      end
    end
    redis.call('HDEL', BARS, unpack(users))
    redis.call('ZREM', BARRED, unpack(users))
  end
  return #users
end
