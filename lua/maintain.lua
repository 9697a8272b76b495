#!lua flags=allow-oom
-- Sets or ends the maintenance window of a partition: nothing is admitted in it.
-- KEYS meta hash
-- KEYS replies hash
-- KEYS reply_times zset
-- ARGV now_ms injected ms or empty
-- ARGV op operation id
-- ARGV from_ms its begin
-- ARGV until_ms its end, not later than from_ms to end it
-- ARGV by who
-- ARGV reason why
-- Reply: ok now_ms | expired now_ms
-- @include clock
-- @include replies
local now = server_now(now_ms)
if redis.call('HEXISTS', replies, op) == 1 then
  return {'ok', now}
end
if is_expired(op, now) then
  return {'expired', now}
end
if tonumber(until_ms) <= math.max(now, tonumber(from_ms)) then
  redis.call('HDEL', meta, 'maintenance')
else
  redis.call('HSET', meta, 'maintenance', table.concat({from_ms, until_ms, by, reason}, '\t'))
end
keep_reply(replies, reply_times, op, now, 'ok')
return {'ok', now}
