-- This run of the server and the history that it writes, as the client reads them when it connects (`link.py`). A demotion and
-- a promotion start another history, and close no connection.
local function server_id()
  local function value_of(section, name)
    local info = redis.call('INFO', section)
    -- A plain search takes a third of a pattern's time, and this script runs behind every write.
    local _, before = string.find(info, '\n' .. name .. ':', 1, true)
    return before and string.match(info, '^%w+', before + 1) or ''
  end
  return value_of('server', 'run_id') .. ':' .. value_of('replication', 'master_replid')
end
