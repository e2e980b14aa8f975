-- Gives Users' live Sessions, and when each was last seen.
--   KEYS  1 base
--   ARGV  Users
--   returns {{Sessions, msgpack, or '' for none; last seen and active, msgpack, or ''}, ...} in order
-- A script so that leases and Sessions are of one moment. Writes nothing.
--!include presence
local found, seen = redis.call('HMGET', SESSIONS, unpack(ARGV)), redis.call('HMGET', SEEN, unpack(ARGV))
local rows = {}
for at = 1, #ARGV do
  local live, packed = {}, ''
  if found[at] then
    for _, one in ipairs(cmsgpack.unpack(found[at])) do
      if is_live(one) then
        live[#live + 1] = one
      end
    end
    packed = #live > 0 and cmsgpack.pack(live) or ''
  end
  rows[at] = {packed, seen[at] or ''}
end
return rows
