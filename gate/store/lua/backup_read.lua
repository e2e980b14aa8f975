-- Reads a Partition's head, and all keys of the Users that its newest Changes concern, as of that head.
--   KEYS  1 meta  2 log
--   ARGV  1 number of the last Change that the caller knows  2 how many newer ones are read at most
--         3-7 what the keys of a User begin with: facts, Blacklist entries and ends, Whitelist entries and ends
--   returns {epoch, seq, tip, moment of the server in ms, {App, User, the rows of the five keys}...}
--         or {'behind'}: there are more newer Changes, or the log does not hold all of them
-- Atomic: what it returns is the state at exactly this head. Writes nothing.
local meta = redis.call('HMGET', KEYS[1], 'epoch', 'seq', 'tip')
local time = redis.call('TIME')
local known, seq = tonumber(ARGV[1]), tonumber(meta[2] or '0')
local reply = {meta[1] or '', seq, meta[3] or '', time[1] * 1000 + math.floor(time[2] / 1000)}
if seq - known > tonumber(ARGV[2]) then
  return {'behind'}
end
local newer = {}
if seq > known then
  newer = redis.call('XRANGE', KEYS[2], string.format('%.0f-0', known + 1), '+', 'COUNT', ARGV[2] + 1)
end
if #newer ~= seq - known then
  return {'behind'}
end
local seen = {}
for _, entry in ipairs(newer) do
  local fields = {}
  for at = 1, #entry[2], 2 do
    fields[entry[2][at]] = entry[2][at + 1]
  end
  local name = fields['a'] .. ':' .. (fields['u'] or '')
  if fields['u'] and not seen[name] then
    seen[name] = true
    local rows = {fields['a'], fields['u'], redis.call('HGETALL', ARGV[3] .. name)}
    for at = 4, 7 do
      rows[at] = redis.call('ZRANGE', ARGV[at] .. name, 0, -1, 'WITHSCORES')
    end
    reply[#reply + 1] = rows
  end
end
return reply
