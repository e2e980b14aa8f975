-- This run of the server and the history that it writes, as the client reads them when it connects (`link.py`). A demotion and
-- a promotion start another history, and close no connection.
local function server_id()
  return (string.match(redis.call('INFO', 'server'), '\nrun_id:(%w+)') or '') .. ':'
    .. (string.match(redis.call('INFO', 'replication'), '\nmaster_replid:(%w+)') or '')
end
