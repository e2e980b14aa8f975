-- Removes an App; its Users' keys are the caller's to delete.
--   KEYS  1 meta  2 log  3 apps  4 deployment audit
--   ARGV  1-5 as lib/append.lua
--   returns {seq, epoch}, also where there was no such App: repeating an interrupted removal is safe
-- Atomic: the App and its Change are one.
--!include append
--!include deployment_audit
open_log()
append('app-removed', {}, false)  -- its own audit is removed with it
if redis.call('HEXISTS', KEYS[3], app) == 1 then
  audit_deployment(KEYS[4], 'app-removed', app, by, why, '{}')
end
redis.call('HDEL', KEYS[3], app)
return close_log()
