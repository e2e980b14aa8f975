-- Adds what an App in shadow mode would have been denied to the App's counts, and deletes those that are too old.
--   KEYS  1 base
--   ARGV  1 hour since 1970  2 how many days are kept  3 most keys of a table
--         4 counts, JSON: c checks  r by reason  s by sender  t by recipient  p by pair; ids in hex
--   returns 1
-- Fields of the hash: h<hour> {c, r}, exact; d<day> {s, t, p}, each pruned as gate/core/shadow.py prunes its tables.
-- Atomic: workers of all nodes add to the same fields.
local SHADOW = KEYS[1] .. 'shadow'
local hour, kept_days, most = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local day = math.floor(hour / 24)
local new = cjson.decode(ARGV[4])

local function stored(field)
  local packed = redis.call('HGET', SHADOW, field)
  return packed and cjson.decode(packed) or {}
end

local function add(into, from)
  into = into or {}
  for key, count in pairs(from) do
    into[key] = (into[key] or 0) + count
  end
  return into
end

local function add_top(into, from)
  local all, counts = add(into, from), {}
  for _, count in pairs(all) do
    counts[#counts + 1] = count
  end
  if #counts < 2 * most then
    return all
  end
  table.sort(counts, function(a, b) return a > b end)
  local below, top = counts[most + 1], {}
  for key, count in pairs(all) do
    if count > below then
      top[key] = count - below
    end
  end
  return top
end

if not redis.call('HGET', SHADOW, 'h' .. hour) then
  for _, field in ipairs(redis.call('HKEYS', SHADOW)) do
    local at = tonumber(string.sub(field, 2))
    if string.sub(field, 1, 1) == 'h' then
      at = math.floor(at / 24)
    end
    if at <= day - kept_days then
      redis.call('HDEL', SHADOW, field)
    end
  end
end
local of_hour, of_day = stored('h' .. hour), stored('d' .. day)
redis.call('HSET', SHADOW,
  'h' .. hour, cjson.encode({c = (of_hour.c or 0) + new.c, r = add(of_hour.r, new.r)}),
  'd' .. day, cjson.encode({s = add_top(of_day.s, new.s), t = add_top(of_day.t, new.t), p = add_top(of_day.p, new.p)}))
redis.call('PEXPIRE', SHADOW, string.format('%.0f', (kept_days + 1) * 86400000))
return 1
