-- Appends to the deployment's audit, which outlives every App. The entry's moment is its id, on the server's clock.
-- `about` is the App key or the operator's name; `value` is JSON.
local function audit_deployment(stream, kind, about, by, why, origin, value)
  redis.call('XADD', stream, 'MAXLEN', '~', '100000', '*',
    'k', kind, 'a', about, 'by', by, 'why', why, 'o', origin, 'v', value)
end
