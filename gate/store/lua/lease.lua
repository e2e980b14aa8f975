-- Takes, renews or releases a node's lease, and maintains the registry's marker.
--   KEYS  1 nodes
--   ARGV  1 node id  2 run of the node's replicator  3 beat, or '' to release the lease  4 length of the lease, ms
--         5 the node's wall clock, ms  6 '1' to take the lease from another run, as a starting replicator does; '' to renew
--         7 incarnation for a new marker  8 incarnation that the node has watched for a lease, or ''
--         9 server id at the node's last renewal, or ''
--         10 '1' if the server serves only this node's data directory
--         11 '1' to count joins, as the nodes of a Cluster need it
--         12 ... field and value of each entry that the node considers dead
--   returns {'1', or '0' with no lease taken if another run has it, server id, field, value, ...}
-- Atomic: of two runs under one id, only one of which writers would wait for, the earlier must learn of the later; a renewed
-- entry must not be removed; and a marker that was set for a list which lost nodes must never be settled.
--!include server_id
local nodes = KEYS[1]
local node, run, beat = ARGV[1], ARGV[2], ARGV[3]
local field = 'node/' .. node
local server = server_id()

local function place_of(any_run)
  return string.match(any_run, '^[^-]*')
end

local function is_alone()
  for _, other in ipairs(redis.call('HKEYS', nodes)) do
    if other ~= field and other ~= 'marker' and other ~= 'joins' then
      return false
    end
  end
  return true
end

local function mark(settled)
  redis.call('HSET', nodes, 'marker', ARGV[7] .. ' ' .. server .. ' ' .. settled)
end

local function answer(granted)
  local listed = redis.call('HGETALL', nodes)
  table.insert(listed, 1, server)
  table.insert(listed, 1, granted)
  return listed
end

local held_by, last_beat = string.match(redis.call('HGET', nodes, field) or '', '^(%S+) (%d+) ')
if beat == '' then
  if held_by == run then
    redis.call('HDEL', nodes, field)
  end
  return answer((held_by and held_by ~= run) and '0' or '1')
end
if held_by and held_by ~= run and ARGV[6] == '' then
  return answer('0')
end
local marker = redis.call('HGET', nodes, 'marker')
local incarnation, of_server = string.match(marker or '', '^(%S+) (%S+) ')
if of_server ~= server then
  local is_whole = ARGV[10] == '1' and is_alone() and (marker or ARGV[6] == '1')
  redis.call('DEL', nodes)
  mark(is_whole and '1' or '0')
elseif (ARGV[9] ~= '' and ARGV[9] ~= server) or (held_by and place_of(held_by) ~= place_of(run)) then
  mark('0')  -- the list was not renewed on this server, or loses a node that may still run
elseif incarnation == ARGV[8] then
  redis.call('HSET', nodes, 'marker', incarnation .. ' ' .. server .. ' 1')
end
for at = 12, #ARGV, 2 do
  if redis.call('HGET', nodes, ARGV[at]) == ARGV[at + 1] then
    redis.call('HDEL', nodes, ARGV[at])
  end
end
if held_by == run and tonumber(last_beat) > tonumber(beat) then
  beat = last_beat  -- a delayed renewal, whose sender has given up on the answer
end
if ARGV[11] == '1' and (held_by ~= run or redis.call('HEXISTS', nodes, field) == 0) then
  redis.call('HSET', nodes, 'joins', (redis.call('HGET', nodes, 'joins') or 0) + 1)
end
local time = redis.call('TIME')
local offset = tonumber(ARGV[5]) - (time[1] * 1000 + math.floor(time[2] / 1000))
redis.call('HSET', nodes, field, run .. ' ' .. beat .. ' ' .. ARGV[4] .. ' ' .. string.format('%.0f', offset))
return answer('1')
