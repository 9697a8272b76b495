#!lua flags=allow-oom
-- A worker that has drained gives up its boot; whatever it still holds is reaped at once by another.
-- KEYS meta hash
-- KEYS workers hash
-- KEYS leases zset
-- KEYS live hash of the boot
-- ARGV now_ms injected ms or empty
-- ARGV boot boot id
-- Reply: left now_ms | abandoned now_ms
-- @include clock
local now = server_now(now_ms)
if redis.call('HGET', meta, 'watch') == boot then
  redis.call('HDEL', meta, 'watch', 'watch_until')
end
if redis.call('HLEN', live) == 0 then
  redis.call('HDEL', workers, boot)
  redis.call('ZREM', leases, boot)
  return {'left', now}
end
redis.call('ZADD', leases, 'XX', 0, boot)
return {'abandoned', now}
