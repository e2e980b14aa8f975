-- What holds back a connect that was verified on facts from before a Change that closed Sessions. Put behind `presence`.
--
-- A closed User's bar names the Change. After a minute, far longer than any connect is under way, it is dropped, and the floor of
-- its Changelog's epoch raised to it: a Replica that lags longer than that is behind the floor, whoever connects.

local BARS, BARRED, FLOORS = base .. 'bars', base .. 'barred', base .. 'floors'
local BAR_MS = 60000

local function bar_of(user)
  return string.match(redis.call('HGET', BARS, user) or '', '^(%x+):(%d+)$')
end

local function is_barred(user, epoch, seq)
  local bar_epoch, bar_seq = bar_of(user)
  if bar_epoch and (bar_epoch ~= epoch or tonumber(bar_seq) > seq) then
    return true
  end
  local floor = redis.call('HGET', FLOORS, epoch)
  return floor and tonumber(floor) > seq
end

-- Drops up to so many bars that are old, or of a clock that was set back since; answers how many.
local function drop_bars(most)
  local users = redis.call('ZRANGEBYSCORE', BARRED, '-inf', '(' .. whole(now - BAR_MS), 'LIMIT', 0, most)
  if #users == 0 then
    users = redis.call('ZRANGEBYSCORE', BARRED, '(' .. whole(now + BAR_MS), '+inf', 'LIMIT', 0, most)
  end
  for _, user in ipairs(users) do
    local epoch, seq = bar_of(user)
    if epoch and tonumber(redis.call('HGET', FLOORS, epoch) or '0') < tonumber(seq) then
      redis.call('HSET', FLOORS, epoch, seq)
    end
    redis.call('HDEL', BARS, user)
    redis.call('ZREM', BARRED, user)
  end
  return #users
end
