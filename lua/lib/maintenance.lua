-- A maintenance window of the namespace, in `meta`: from, until, by, reason, tab-separated. Nothing is admitted in it; afterwards each
-- task's misfire policy decides, as after an outage. Returns when the present one ends.
local function maintenance_end(meta_key, now)
  local from, until_ms = string.match(redis.call('HGET', meta_key, 'maintenance') or '', '^(%d+)\t(%d+)\t')
  if from and tonumber(from) <= now and now < tonumber(until_ms) then
    return tonumber(until_ms)
  end
end
