-- `cancels` run id -> since, by, reason; tab-separated: live runs whose worker was asked to end them. The message on the channel
-- is a hint; a worker hears of them with its next claim or renewal anyway.
local function request_cancel(keys, channel, run, now, by, reason)
  if redis.call('HSETNX', keys.cancels, run, table.concat({int(now), by, reason}, '\t')) == 1 then
    redis.call('PUBLISH', channel, run)
  end
end

-- Those of them that a boot holds.
local function cancels_of(cancels_key, live_key)
  local found = {}
  if redis.call('HLEN', cancels_key) > 0 then
    local runs = redis.call('HKEYS', live_key)
    for _, run in ipairs(runs) do
      if redis.call('HEXISTS', cancels_key, run) == 1 then
        found[#found + 1] = run
      end
    end
  end
  return found
end
