-- Writes rows of a backup into one key, and into the indexes of a User's facts.
--   KEYS  1 the key  2-5 for facts: indexes bans, mutes, users, gone
--   ARGV  1 'hash', 'zset' or 'stream'  2 '1' to delete the key first  3 User of the indexes
--         4... rows: name and value, member and score, or the entry's id, its number of fields and values, and these
--   returns 'ok'
-- Atomic: a User's facts and their index entries are written together. No Change: nothing follows before restore_end.lua.
local INDEXED = {'b', 'm', 'r', 'd'}  -- the fields whose moments the indexes hold, in the order of KEYS
if ARGV[2] == '1' then
  redis.call('DEL', KEYS[1])
  for index = 2, #KEYS do
    redis.call('ZREM', KEYS[index], ARGV[3])
  end
end
local rows = {}
if ARGV[1] == 'hash' then
  for at = 4, #ARGV do
    rows[#rows + 1] = ARGV[at]
  end
  if #rows > 0 then
    redis.call('HSET', KEYS[1], unpack(rows))
  end
  for index = 2, #KEYS do
    local moment = redis.call('HGET', KEYS[1], INDEXED[index - 1])
    if moment and moment ~= '' then  -- an erased User is registered without a moment
      redis.call('ZADD', KEYS[index], moment, ARGV[3])
    end
  end
elseif ARGV[1] == 'zset' then
  for at = 4, #ARGV, 2 do
    rows[#rows + 1] = ARGV[at + 1]
    rows[#rows + 1] = ARGV[at]
  end
  if #rows > 0 then
    redis.call('ZADD', KEYS[1], unpack(rows))
  end
else
  local at = 4
  while at <= #ARGV do
    local count = tonumber(ARGV[at + 1])
    redis.call('XADD', KEYS[1], ARGV[at], unpack(ARGV, at + 2, at + 1 + count))
    at = at + 2 + count
  end
end
return 'ok'
