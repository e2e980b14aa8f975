-- Drops what is kept of Users that have no Session.
--   KEYS  1 base
--   ARGV  Users
--   returns how many there were
local dropped = 0
for _, user in ipairs(ARGV) do
  dropped = dropped + redis.call('HDEL', KEYS[1] .. 'seen', user)
end
return dropped
