-- What cannot be understood stays where it is, out of the way at +inf, with the reason beside it.
local function park(due_key, quarantine_key, id, reason)
  redis.call('ZADD', due_key, '+inf', id)
  redis.call('HSET', quarantine_key, id, reason)
end

-- A task no worker here can call is offered again after a second, then ever more rarely, at least every half minute.
-- `unroutable` task id -> times, since, path ("-" where it cannot be read), member of its sorted set, reason; tab-separated
local function backoff_unroutable(unroutable_key, id, now, path, member, reason)
  local known = redis.call('HGET', unroutable_key, id) or ''
  local times, since, old_reason = string.match(known, '^(%d+)\t(%d+)\t[^\t]+\t[^\t]+\t(.*)$')
  local n = tonumber(times or '0') + 1
  local record = {int(n), since or int(now), path, member, reason or old_reason or 'refused'}
  redis.call('HSET', unroutable_key, id, table.concat(record, '\t'))
  return math.min(30000, 1000 * 2 ^ math.min(n - 1, 5))
end

-- Some of what others could not call, and this worker may, is due at once: it must not wait for their backoff.
local function hasten_unroutable(unroutable_key, queue_keys, is_refused, now)
  local some = redis.call('HRANDFIELD', unroutable_key, 8, 'WITHVALUES')
  for i = 2, #some, 2 do
    local path, member = string.match(some[i], '^%d+\t%d+\t([^\t]+)\t([^\t]+)\t')
    if path and path ~= '-' and not is_refused[path] then
      for _, key in ipairs(queue_keys) do
        local at = tonumber(redis.call('ZSCORE', key, member) or 'inf')
        if at > now and at <= now + 30000 then
          redis.call('ZADD', key, now, member)
        end
      end
    end
  end
end
