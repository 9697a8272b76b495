#!lua flags=allow-oom
-- Notes how far a live run has come. Only the holder of its token is heard.
-- KEYS live hash of the boot
-- KEYS progress hash
-- ARGV now_ms injected ms or empty
-- ARGV run run id
-- ARGV token token
-- ARGV text how far
-- Reply: noted now_ms | stale now_ms
-- @include clock
-- @include runs
local now = server_now(now_ms)
local attempt = parse_live(redis.call('HGET', live, run) or '')
if not attempt or attempt.token ~= token then
  return {'stale', now}
end
redis.call('HSET', progress, run, int(now) .. '\t' .. text)
return {'noted', now}
