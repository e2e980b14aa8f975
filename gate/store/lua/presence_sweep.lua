-- Ends Sessions whose lease has ended, some at a time.
--   KEYS  1 base
--   ARGV  1 how many Users at most
--   returns {how many Sessions were ended, how many leases still have some}
-- Atomic: a Session leaves its User, the counts and its Gateway's set in one step. What is left for the next run is not live
-- meanwhile either.
--!include presence
--!include presence_changes
local room, ended = tonumber(ARGV[1]), 0
while room > 0 do
  local ending = redis.call('SRANDMEMBER', base .. 'ending')
  if not ending then
    break
  end
  local epoch, gateway = string.match(ending, '^(%d+):(.*)$')
  local held = base .. 'held:' .. ending
  local users = redis.call('SRANDMEMBER', held, room)
  if #users > 0 then
    read(SESSIONS, sessions_by, users)
    read(LEFT, left_by, users)
    read(SEEN, seen_by, users)
  end
  for _, user in ipairs(users) do
    local kept, gone = {}, {}
    for _, one in ipairs(sessions_of(user)) do
      if one[GATEWAY] == gateway and one[EPOCH] == tonumber(epoch) then
        gone[#gone + 1] = {one, 'lease-ended'}
      else
        kept[#kept + 1] = one
      end
    end
    if #gone > 0 then
      keep_without(user, kept, gone, FLAP_MS)
    else
      hold(held, user, false)
    end
    ended = ended + #gone
  end
  write()
  room = room - math.max(1, #users)
  if redis.call('EXISTS', held) == 0 then
    redis.call('SREM', base .. 'ending', ending)
  end
end
return {ended, redis.call('SCARD', base .. 'ending')}
