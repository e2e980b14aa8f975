-- Appends a result to the webhook queue. Included by scripts that finish an operation whose result an App gets by webhook.
--   fields: a App key, u User, o operation, y type ('0' deactivation, '1' reactivation), c code ('0' done, '1' too early),
--           t when, ms
local function queue_result(hooks, app_key, user, operation, kind, at, code)
  redis.call('XADD', hooks, '*', 'a', app_key, 'u', user, 'o', operation, 'y', kind, 'c', code or '0', 't', at)
end
