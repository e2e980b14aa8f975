-- Appends a result to the stream that webhooks are delivered from. Put in front of scripts that end what an App waits for.
--   fields: a App key, u User, o operation, y type ('0' deactivation, '1' reactivation), c code ('0' done, '1' too early), t when, ms
local function tell(hooks, app_key, user, operation, kind, at, code)
  redis.call('XADD', hooks, '*', 'a', app_key, 'u', user, 'o', operation, 'y', kind, 'c', code or '0', 't', at)
end
