#!lua flags=allow-oom
-- Marks a redelivered attempt as started, so that its loss counts.
-- KEYS live hash of the boot
-- ARGV run run id
-- ARGV token token
-- Reply: started | stale
-- @include clock
-- @include runs
local attempt = parse_live(redis.call('HGET', live, run) or '')
if not attempt or attempt.token ~= token then
  return {'stale'}
end
attempt.started = '1'
redis.call('HSET', live, run, format_live(attempt))
return {'started'}
