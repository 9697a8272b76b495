-- Lets a task's next occurrences go.
-- KEYS tasks hash
-- KEYS skips hash
-- KEYS replies hash
-- KEYS reply_times zset
-- ARGV now_ms injected ms or empty
-- ARGV op operation id
-- ARGV id task id
-- ARGV generation as loaded
-- ARGV count how many, 0 takes it back
-- Reply: skipping now_ms | gone now_ms | expired now_ms
-- @include clock
-- @include task
-- @include replies
local now = server_now(now_ms)
if redis.call('HEXISTS', replies, op) == 1 then
  return {'skipping', now}
end
if is_expired(op, now) then
  return {'expired', now}
end
local task = parse_task(redis.call('HGET', tasks, id) or '')
if not task or task.generation ~= generation then
  return {'gone', now}
end
if count == '0' then
  redis.call('HDEL', skips, id)
else
  redis.call('HSET', skips, id, count)
end
keep_reply(replies, reply_times, op, now, 'skipping')
return {'skipping', now}
