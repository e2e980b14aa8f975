-- What holds back a connect that was verified on facts from before a Change that closed Sessions. Put behind `presence`.
--
-- A closed User's bar names the Change. After a minute, far longer than any connect is under way, it is dropped, and the floor of
-- its Changelog's epoch raised to it: a Replica that lags longer than that is behind the floor, whoever connects.

local BARS, BARRED, FLOORS = base .. 'bars', base .. 'barred', base .. 'floors'
local BAR_MS = 60000

local bars_by, floor_by = {}, {}

-- Reads the bars of Users at once. What follows takes Users of whom it was read.
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

-- Drops up to so many bars that are old, or of a clock that was set back since; answers how many. None while Users move to other
-- slices: the floor that takes a bar's place is raised in this slice alone, and a User who is barred here may connect there.
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
