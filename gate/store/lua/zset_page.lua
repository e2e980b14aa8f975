-- Reads the entries of a sorted set after a position, at which an entry need not exist any more.
--   KEYS  1 sorted set
--   ARGV  1 'REV' for descending, or '' for ascending scores  2 score of the position, or '' for the beginning
--         3 member of the position  4 entries wanted
--   returns {member, score, member, score, ...}, at most as many
-- Atomic so that the rank belongs to the entries that are read. Writes nothing.
--!include zset_rank
local command, wanted = ARGV[1] == 'REV' and 'ZREVRANGE' or 'ZRANGE', tonumber(ARGV[4])
local first = rank_after(KEYS[1], command, ARGV[2], ARGV[3])
return redis.call(command, KEYS[1], first, first + wanted - 1, 'WITHSCORES')
