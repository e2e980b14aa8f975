-- Opens a Session.
--   KEYS  1 base
--   ARGV  1 gateway  2 epoch  3 user  4 session  5 platform  6 ip  7 when its Token was minted, ms
--         8 device policy: all, one-per-platform or one   9 how many Sessions a User may have
--         10 Changelog epoch and 11 seq that the Token was verified at
--         12 since when, ms, to bring a Session back that the server lost; '' for a new one
--   returns {'ok'}, or with nothing written {'nolease'}, {'fenced'}, {'barred'} or {'full', how many there are}
-- Atomic: the lease is read, older devices are replaced and the change is told in one step.
--!include presence
--!include bars
local gateway, epoch, user, id, platform = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5]
local known = lease(gateway)
if not known or known.epoch < epoch then
  return {'nolease'}
end
if known.epoch > epoch or not known.holds then
  return {'fenced'}
end
-- Sessions of this User were closed by a Change that the verifying Replica may not have seen.
if is_barred(user, ARGV[10], tonumber(ARGV[11])) then
  return {'barred'}
end
local before = sessions_of(user)
local kept, gone, live = {}, {}, 0
local policy, is_restored = ARGV[8], ARGV[12] ~= ''
for _, one in ipairs(before) do
  if one[ID] == id and is_live(one) then
    return {'ok'}  -- it is here already
  end
  if one[ID] == id then
    gone[#gone + 1] = {one, 'lease-ended'}  -- its Gateway brings it back under a later lease, before it was swept
  elseif not is_restored and (policy == 'one' or policy == 'one-per-platform' and one[PLATFORM] == platform) then
    gone[#gone + 1] = {one, 'replaced'}
  else
    kept[#kept + 1] = one
    live = live + (is_live(one) and 1 or 0)
  end
end
if live >= tonumber(ARGV[9]) then
  return {'full', live}
end
local session = {id, platform, gateway, epoch, is_restored and tonumber(ARGV[12]) or now, ARGV[6], tonumber(ARGV[7])}
for _, one in ipairs(gone) do
  if is_live(one[1]) then
    tell_of('kick', user, one[1], 'replaced')
  end
end
local left = left_of(user)
local was_announced = has_platform(before, platform) or (left and left[platform])
if not was_announced then
  tell_of((#before > 0 or left) and 'platform-online' or 'online', user, session, '')
end
if left and left[platform] then
  left[platform] = nil
  keep_left(user, left)
end
kept[#kept + 1] = session
count(session, 1)
redis.call('SADD', held_key(session), user)
if #gone > 0 then
  keep_without(user, kept, gone, FLAP_MS)
else
  redis.call('HSET', SESSIONS, user, cmsgpack.pack(kept))
end
return {'ok'}
