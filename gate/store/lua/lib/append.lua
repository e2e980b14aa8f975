-- Numbers Changes and appends them to a Partition's Changelog. Put in front of every script that writes.
--
-- A script that includes this has   KEYS[1] meta   KEYS[2] log
-- and   ARGV[1] now, ms             ARGV[2] epoch to take if there is none, 16 hex
--       ARGV[3] write id, first 12 of 16 hex         ARGV[4] about how many entries the log keeps
--       ARGV[5] App key
-- Behind its own keys and arguments the writer puts what every write has, which is taken off here, so that a script counts
-- its own by #KEYS and #ARGV: the last key is the App's audit stream; the last arguments are '1' to audit the Changes (or
-- ''), who did it, and why.
-- It calls open_log() once every check has passed, append() for each Change, then changes its state, and returns
-- close_log(): {seq, epoch}. Appending comes before any change of state, so that a log that refuses an entry (out of
-- memory, disk full, read-only) leaves nothing half-written.
-- A script that ends in its middle all the same, as for a right that its user lacks, leaves entries that meta does not count.
-- Nobody can say what was changed with them, so the Partition begins a new history: every follower loads a snapshot.

local why, by, is_audited = table.remove(ARGV), table.remove(ARGV), table.remove(ARGV) == '1'
local audit_stream = table.remove(KEYS)
local now = tonumber(ARGV[1])
local app = ARGV[5]
local epoch, seq, tip
local appended = 0

-- A whole number in full: Lua would write one past 10^14 with an exponent.
local function whole(number)
  return string.format('%.0f', number)
end

local function begin_anew()
  redis.call('DEL', KEYS[2])
  epoch, seq, tip = ARGV[2], 0, ''
end

local function open_log()
  local meta = redis.call('HMGET', KEYS[1], 'epoch', 'seq', 'tip')
  if meta[1] then
    epoch, seq, tip = meta[1], tonumber(meta[2]), meta[3]
  else
    -- Entries without an epoch belong to no history, and would refuse the numbers of a new one. Looked for first: a script
    -- whose first write is a DEL may go on where memory is full, as it seems to free some.
    if redis.call('EXISTS', KEYS[2]) == 1 then
      redis.call('DEL', KEYS[2])
    end
    epoch, seq, tip = ARGV[2], 0, ''
  end
end

-- Writes what was done, to whom, by whom and why. Its moment is its id, on the server's clock.
local function audit(kind, fields)
  redis.call('XADD', audit_stream, '*', 'k', kind, 'by', by, 'why', why, unpack(fields))
end

-- `fields` are those of gate/core/changes.py after k t w p a: a flat list of names and values. The audit shows the same,
-- unless `shown` gives others; false keeps what happened by itself out of it.
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
        begin_anew()
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
