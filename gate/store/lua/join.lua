-- Marks in a Partition of a Cluster that the nodes which have joined may know its head.
--   KEYS  1 meta
--   ARGV  1 incarnation of the registry  2 its join number, both as returned by the node's last renewal
--         3 server id, incarnation and nonce, separated by spaces, that the node has seen in the mark for a lease; or ''
--         4 nonce of a mark that replaces another, random
--   returns {server id, the mark: server id, '1' if settled, incarnation, join number, nonce, separated by spaces}
-- Atomic: a mark of another run of the server, or of another registry, must not pass for this one's (docs/decisions/0017).
--!include server_id
local server = server_id()
local before = redis.call('HGET', KEYS[1], 'joined') or ''
local of_server, settled, incarnation, number, nonce = string.match(before, '^(%S+) (%d) (%S+) (%d+) (%x+)$')
if of_server ~= server or incarnation ~= ARGV[1] then
  -- A mark that was replaced, and then written again with the same content, has another nonce: its watch begins again.
  settled, number, nonce = '0', ARGV[2], ARGV[4]
elseif ARGV[3] == server .. ' ' .. incarnation .. ' ' .. nonce then
  settled = '1'
end
if tonumber(number) < tonumber(ARGV[2]) then
  number = ARGV[2]
end
local mark = server .. ' ' .. settled .. ' ' .. ARGV[1] .. ' ' .. number .. ' ' .. nonce
if mark ~= before then
  redis.call('HSET', KEYS[1], 'joined', mark)
end
return {server, mark}
