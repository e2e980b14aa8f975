-- Claims jobs, each if its claim is still the one that the caller saw.
--   KEYS  1 jobs
--   ARGV  job, the claim seen, job, the claim seen, ...
--   returns {job, ...}, those that were claimed; each has the next higher claim
-- Atomic: no two workers take the same job.
local taken = {}
for at = 1, #ARGV, 2 do
  local claim = redis.call('ZSCORE', KEYS[1], ARGV[at])
  if claim and tonumber(claim) == tonumber(ARGV[at + 1]) then
    redis.call('ZINCRBY', KEYS[1], 1, ARGV[at])
    taken[#taken + 1] = ARGV[at]
  end
end
return taken
