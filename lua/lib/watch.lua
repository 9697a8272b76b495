-- One worker holds the watch until the next due instant, so that a fleet does not wake as a herd.
-- Returns 1 when this boot holds the watch, 2 when it just gave it up, 0 otherwise.
local function keep_watch(meta_key, boot, now, is_idle, soonest)
  local holder, target = unpack(redis.call('HMGET', meta_key, 'watch', 'watch_until'))
  local watched_until = tonumber(target or '0')
  if not is_idle then
    if holder ~= boot then
      return 0
    end
    redis.call('HDEL', meta_key, 'watch', 'watch_until')
    return 2
  end
  local until_ms = math.min(soonest, now + 10000) + 500
  if holder and holder ~= boot and watched_until >= now and watched_until <= until_ms then
    return 0
  end
  redis.call('HSET', meta_key, 'watch', boot, 'watch_until', int(until_ms))
  return 1
end
