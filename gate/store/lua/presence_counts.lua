-- Counts an App's live Sessions by platform and Gateway, without looking at one.
--   KEYS  1 base
--   ARGV  1 slicing, as the caller knows it
--   returns {Users with a Session, of which those under an ended lease are left off only once they are swept;
--            how many leases are being swept; then for each Gateway and platform: gateway, platform, Sessions};
--           {'stale'} if the App is sliced otherwise
-- A script so that leases and counts are of one moment. Writes nothing.
--!include presence
--!include presence_counts
if slicing() ~= ARGV[1] then
  return {'stale'}
end
local rows = {redis.call('HLEN', SESSIONS), redis.call('SCARD', base .. 'ending')}
for _, one in ipairs(live_counts()) do
  rows[#rows + 1], rows[#rows + 2], rows[#rows + 3] = one[1], one[2], one[3]
end
return rows
