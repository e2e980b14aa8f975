-- Opens Sessions, of one Gateway and under one device policy.
--   KEYS  1 base
--   ARGV  1 slicing and 2 whether these Users move, as lib/slices.lua says
--         3 gateway  4 epoch  5 device policy: all, one-per-platform or one   6 how many Sessions a User may have
--         7... for each Session: user, session, platform, ip, when its Token was minted, ms,
--              Changelog epoch and seq that the Token was verified at,
--              since when, ms, to bring a Session back that the server lost; '' for a new one
--   returns for each: 'ok', or where nothing was written 'nolease', 'fenced', 'barred', 'full', or where else the User is
-- Atomic: one step reads the lease, replaces older devices and appends to the feed. The result is as if each Session were
-- opened by itself.
--!include presence
--!include slices
--!include presence_changes
--!include bars
local gateway, epoch, policy, most = ARGV[3], tonumber(ARGV[4]), ARGV[5], tonumber(ARGV[6])
local FIRST, PARTS = 7, 8

local function refusal()
  local known = lease(gateway)
  if not known or known.epoch < epoch then
    return 'nolease'
  end
  return (known.epoch > epoch or not known.holds) and 'fenced'
end

local function open(user, id, platform, ip, minted, since)
  local before = sessions_of(user)
  local kept, gone, live = {}, {}, 0
  for _, one in ipairs(before) do
    if one[ID] == id and is_live(one) then
      return 'ok'  -- it is here already
    end
    if one[ID] == id then
      gone[#gone + 1] = {one, 'lease-ended'}  -- its Gateway brings it back under a later lease, before it was swept
    elseif not since and (policy == 'one' or policy == 'one-per-platform' and one[PLATFORM] == platform) then
      gone[#gone + 1] = {one, 'replaced'}
    else
      kept[#kept + 1] = one
      live = live + (is_live(one) and 1 or 0)
    end
  end
  if live >= most then
    return 'full'
  end
  for _, one in ipairs(gone) do
    if is_live(one[1]) then
      announce_session('kick', user, one[1], 'replaced')
    end
  end
  local session = {id, platform, gateway, epoch, since or now, ip, minted}
  local left = left_of(user)
  if left and left[platform] then
    left[platform] = nil
    keep_left(user, left)
  elseif not has_platform(before, platform) then
    announce_session((#before > 0 or left) and 'platform-online' or 'online', user, session, '')
  end
  kept[#kept + 1] = session
  if #gone > 0 then
    keep_without(user, kept, gone, FLAP_MS)
  else
    keep_sessions(user, kept)
  end
  count(session, 1)
  hold(held_key(session), user, true)
  return 'ok'
end

local users = users_from(FIRST, PARTS)
find(users)
local refused, words = refusal(), {}
if refused or is_stale then
  for nth, user in ipairs(users) do
    words[nth] = elsewhere[user] or refused
  end
  return words
end
read(SESSIONS, sessions_by, users)
read(LEFT, left_by, users)
read_bars(users)
for nth, user in ipairs(users) do
  local at = FIRST + PARTS * (nth - 1)
  if elsewhere[user] then
    words[nth] = elsewhere[user]
  -- Sessions of this User were closed by a Change that the verifying Replica may not have seen.
  elseif is_barred(user, ARGV[at + 5], tonumber(ARGV[at + 6])) then
    words[nth] = 'barred'
  else
    words[nth] = open(user, ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], tonumber(ARGV[at + 4]), tonumber(ARGV[at + 7]))
  end
end
write()
return words
