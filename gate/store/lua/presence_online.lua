-- Says which Users have a live Session.
--   KEYS  1 base
--   ARGV  Users
--   returns {1 or 0, ...} in order
-- A script so that leases and Sessions are of one moment. Writes nothing.
--!include presence
local found = redis.call('HMGET', SESSIONS, unpack(ARGV))
local online = {}
for at = 1, #ARGV do
  online[at] = 0
  if found[at] then
    for _, one in ipairs(cmsgpack.unpack(found[at])) do
      if is_live(one) then
        online[at] = 1
        break
      end
    end
  end
end
return online
