-- Gives Users' live Sessions, and when each was last seen.
--   KEYS  1 base
--   ARGV  1 slicing and 2 whether these Users move, as lib/slices.lua says
--         3... Users
--   returns for each: {Sessions, msgpack, or '' for none; last seen and active, msgpack, or ''}, or where else the User is
-- A script so that leases and Sessions are of one moment. Writes nothing.
--!include presence
--!include slices
local users = users_from(3, 1)
find(users)
local found, seen = redis.call('HMGET', SESSIONS, unpack(users)), redis.call('HMGET', SEEN, unpack(users))
local rows = {}
for at, user in ipairs(users) do
  local live, packed = {}, ''
  local kept = found[at] or taken_of(user, TAKEN_SESSIONS)
  if kept and not is_stale then
    for _, one in ipairs(cmsgpack.unpack(kept)) do
      if is_live(one) then
        live[#live + 1] = one
      end
    end
    packed = #live > 0 and cmsgpack.pack(live) or ''
  end
  rows[at] = not readable(user) and elsewhere[user] or {packed, seen[at] or taken_of(user, TAKEN_SEEN) or ''}
end
return rows
