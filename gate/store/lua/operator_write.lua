-- Writes or removes an operator.
--   KEYS  1 operators  2 deployment audit
--   ARGV  1 name  2 the required present value: '' none, otherwise exactly this JSON  3 the new value: JSON, '' to remove
--         4 kind of the audit's entry  5 by  6 why  7 what changed, as JSON without the password's hash
--         8 origin
--   returns 'ok'; or 'differs' or 'last-admin' with nothing written
-- Atomic: of two callers who change one operator the second sees the change; and two admins who remove each other concurrently
-- must not leave a deployment without an administrator.
--!include deployment_audit
if (redis.call('HGET', KEYS[1], ARGV[1]) or '') ~= ARGV[2] then
  return 'differs'
end

-- Of the whole deployment: one that is limited to Apps may not administer it.
local function is_admin(operator)
  if operator == '' then
    return false
  end
  local account = cjson.decode(operator)
  return account['role'] == 'admin' and not account['apps']
end

if is_admin(ARGV[2]) and not is_admin(ARGV[3]) then
  local admins = 0
  for _, operator in ipairs(redis.call('HVALS', KEYS[1])) do
    if is_admin(operator) then
      admins = admins + 1
    end
  end
  if admins == 1 then
    return 'last-admin'
  end
end
audit_deployment(KEYS[2], ARGV[4], ARGV[1], ARGV[5], ARGV[6], ARGV[8], ARGV[7])
if ARGV[3] == '' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
end
return 'ok'
