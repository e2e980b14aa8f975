-- Announces departures that have lasted.
--   KEYS  1 base
--   ARGV  1 how many Users at most
--   returns {how many departures were announced, in how many ms the next is due or -1}
-- Atomic: whether the User is back is read in the step that announces it gone.
--!include presence
--!include presence_changes
local announced = 0
-- A clock that was set back must not keep anybody online: what is due later than it can be was dated by the old clock.
local users = redis.call('ZRANGEBYSCORE', LEAVING, '-inf', whole(now), 'LIMIT', 0, ARGV[1])
if #users == 0 then
  users = redis.call('ZRANGEBYSCORE', LEAVING, '(' .. whole(now + FLAP_MS), '+inf', 'LIMIT', 0, ARGV[1])
end
if #users > 0 then
  read(SESSIONS, sessions_by, users)
  read(LEFT, left_by, users)
end
for _, user in ipairs(users) do
  local left, due = left_of(user) or {}, {}
  local sessions = sessions_of(user)
  for platform, departure in pairs(left) do
    if departure[1] <= now or departure[1] > now + FLAP_MS then
      due[#due + 1] = {platform, departure}
    end
  end
  table.sort(due, function(a, b)
    return a[2][2] < b[2][2] or (a[2][2] == b[2][2] and a[1] < b[1])
  end)
  for _, one in ipairs(due) do
    local platform, departure = one[1], one[2]
    left[platform] = nil
    if not has_platform(sessions, platform) then
      local kind = (#sessions > 0 or next(left)) and 'platform-offline' or 'offline'
      announce(kind, user, departure[3], platform, departure[4], departure[5], departure[6], whole(departure[2]))
      announced = announced + 1
    end
  end
  keep_left(user, left)
end
write()
local following = redis.call('ZRANGE', LEAVING, 0, 0, 'WITHSCORES')
if not following[2] then
  return {announced, -1}
end
local due_in = math.max(0, tonumber(following[2]) - now)
return {announced, due_in <= FLAP_MS and due_in or 0}
