-- Writes an App's settings.
--   KEYS  1 meta  2 log  3 apps  4 deployment audit
--   ARGV  1-5 as lib/append.lua  6 the App as JSON
--         7 the required present value: '' none, '*' any App, otherwise exactly this JSON
--         8 what changed, as JSON without secrets, for the audit
--   returns {seq, epoch}, or {'differs', the present value or ''} with nothing written
-- Atomic: of two operators who change the same App, the second sees the change and reads again.
--!include append
--!include deployment_audit
local present = redis.call('HGET', KEYS[3], app) or ''
if present ~= ARGV[7] and not (ARGV[7] == '*' and present ~= '') then
  return {'differs', present}
end
open_log()
append('app-set', {'v', ARGV[6]}, {'v', ARGV[8]})
audit_deployment(KEYS[4], present == '' and 'app-created' or 'app-changed', app, by, why, origin, ARGV[8])
redis.call('HSET', KEYS[3], app, ARGV[6])
return close_log()
