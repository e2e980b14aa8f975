-- Marks in a Partition of a Cluster that the nodes which joined until now may know its head.
--   KEYS  1 meta
--   ARGV  1 incarnation of the registry  2 its join number, both as the node's last renewal answered
--         3 server id and incarnation, with a space between, that the node has seen in the mark for a lease; or ''
--   returns {server id, the mark: server id, '1' if settled, incarnation, join number, with spaces between}
-- Atomic: a mark of another run of the server, or of another registry, must not pass for this one's (docs/decisions/0017).
--!include server_id
local server = server_id()
local before = redis.call('HGET', KEYS[1], 'joined') or ''
local of_server, settled, incarnation, number = string.match(before, '^(%S+) (%d) (%S+) (%d+)$')
if of_server ~= server or incarnation ~= ARGV[1] then
  settled, number = '0', ARGV[2]
elseif ARGV[3] == server .. ' ' .. incarnation then
  settled = '1'
end
if tonumber(number) < tonumber(ARGV[2]) then
  number = ARGV[2]
end
local mark = server .. ' ' .. settled .. ' ' .. ARGV[1] .. ' ' .. number
if mark ~= before then
  redis.call('HSET', KEYS[1], 'joined', mark)
end
return {server, mark}
