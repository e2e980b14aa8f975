-- Removes an App. The caller deletes its Users' keys.
--   KEYS  1 meta  2 log  3 apps  4 deployment audit
--   ARGV  1-5 as lib/append.lua
--   returns {seq, epoch}, also if there was no such App: repeating an interrupted removal is safe
-- Atomic: the App and its Change are written together.
--!include append
--!include deployment_audit
open_log()
append('app-removed', {}, false)  -- not in the App's own audit, which is removed with it
if redis.call('HEXISTS', KEYS[3], app) == 1 then
  audit_deployment(KEYS[4], 'app-removed', app, by, why, origin, '{}')
end
redis.call('HDEL', KEYS[3], app)
return close_log()
