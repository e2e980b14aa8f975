-- Removes an App; its Users' keys are the caller's to delete.
--   KEYS  1 meta  2 log  3 apps
--   ARGV  1-5 as lib/append.lua
--   returns {seq, epoch}, also where there was no such App: repeating an interrupted removal is safe
-- Atomic: the App and its Change are one.
--!include append
open_log()
append('app-removed', {})
redis.call('HDEL', KEYS[3], app)
return close_log()
