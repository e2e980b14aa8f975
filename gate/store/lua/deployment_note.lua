-- Appends one entry to the deployment's audit that no other script appends, such as a loss of facts.
--   KEYS  1 deployment audit
--   ARGV  1 kind  2 App key or ''  3 by  4 why  5 value, JSON  6 origin
--   returns 'ok'
-- A script because only scripts write, and because the bound of the stream is defined in one place.
--!include deployment_audit
audit_deployment(KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[6], ARGV[5])
return 'ok'
