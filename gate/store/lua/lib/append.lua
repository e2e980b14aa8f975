-- Numbers Changes and appends them to a Partition's Changelog. Included first by every script that writes.
--
-- A script that includes this has   KEYS[1] meta   KEYS[2] log
-- and   ARGV[1] now, ms             ARGV[2] epoch for a log without one, 16 hex
--       ARGV[3] write id, first 12 of 16 hex         ARGV[4] about how many entries the log keeps
--       ARGV[5] App key
-- After its own keys and arguments the writer appends those of every write. They are removed here, so that a script counts its
-- own by #KEYS and #ARGV: the last key is the App's audit stream; the last arguments are '1' to audit the Changes (or ''), the
-- actor, the reason, and the origin (gate/store/writer.py).
-- The script calls open_log() once every check has passed, append() for each Change, then changes its state, and returns
-- close_log(): {seq, epoch}. Appending comes before any change of state, so that a log that refuses an entry (out of
-- memory, disk full, read-only) leaves nothing half-written.
-- A script that ends halfway nevertheless, as for a missing right of its user, leaves entries that meta does not count. It is
-- unknown what else it changed, so the Partition begins a new history: every follower loads a snapshot.

local origin, why, by = table.remove(ARGV), table.remove(ARGV), table.remove(ARGV)
local is_audited = table.remove(ARGV) == '1'
local audit_stream = table.remove(KEYS)
local now = tonumber(ARGV[1])
local app = ARGV[5]
local epoch, seq, tip
local appended = 0

-- An integer in full: Lua would write one past 10^14 with an exponent.
local function whole(number)
  return string.format('%.0f', number)
end

local function start_history()
  redis.call('DEL', KEYS[2])
  epoch, seq, tip = ARGV[2], 0, ''
end

local function open_log()
  local meta = redis.call('HMGET', KEYS[1], 'epoch', 'seq', 'tip')
  if meta[1] then
    epoch, seq, tip = meta[1], tonumber(meta[2]), meta[3]
  else
    -- Entries without an epoch belong to no history, and would refuse the numbers of a new one. EXISTS comes first: a script
    -- whose first write is a DEL may run although memory is full, because it seems to free some.
    if redis.call('EXISTS', KEYS[2]) == 1 then
      redis.call('DEL', KEYS[2])
    end
    epoch, seq, tip = ARGV[2], 0, ''
  end
end

-- Appends an audit entry: action, User, actor, reason and origin. Its moment is its id, on the server's clock.
local function audit(kind, fields)
  redis.call('XADD', audit_stream, '*', 'k', kind, 'by', by, 'why', why, 'o', origin, unpack(fields))
end

-- `fields` are those of gate/core/changes.py after k t w p a: a flat list of names and values. The audit entry has the same,
-- unless `shown` gives others; false omits a consequence of another action from the audit.
local function append(kind, fields, shown)
  local id = ARGV[3] .. string.format('%04x', appended % 65536)
  local function put(call)
    return call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[4], whole(seq + 1) .. '-0',
      'k', kind, 't', ARGV[1], 'w', id, 'p', tip, 'a', app, unpack(fields))
  end
  if appended > 0 then
    put(redis.call)
  else
    local refused = put(redis.pcall).err
    if refused then
      if string.find(refused, 'equal or smaller', 1, true) then
        start_history()
      end
      put(redis.call)  -- any other refusal ends the script, in the server's words
    end
  end
  seq, tip, appended = seq + 1, id, appended + 1
  if is_audited and shown ~= false then
    audit(kind, shown or fields)
  end
end

local function close_log()
  redis.call('HSET', KEYS[1], 'epoch', epoch, 'seq', whole(seq), 'tip', tip)
  return {seq, epoch}
end
