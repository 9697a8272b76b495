#!lua flags=allow-oom
-- Holds a task's schedule until it is resumed. Open runs go on.
-- KEYS tasks hash
-- KEYS plan hash
-- KEYS paused hash
-- KEYS replies hash
-- KEYS reply_times zset
-- KEYS due zset due:<queue>
-- ARGV now_ms injected ms or empty
-- ARGV op operation id
-- ARGV id task id
-- ARGV generation as loaded
-- ARGV until_ms when it is resumed by itself, - for never
-- ARGV by who pauses it
-- ARGV reason why
-- Reply: paused now_ms | gone now_ms | expired now_ms | moved now_ms (to another queue: load it again)
-- @include clock
-- @include plan
-- @include task
-- @include pauses
-- @include replies
local now = server_now(now_ms)
if redis.call('HEXISTS', replies, op) == 1 then
  return {'paused', now}
end
if is_expired(op, now) then
  return {'expired', now}
end
local task = parse_task(redis.call('HGET', tasks, id) or '')
local column = parse_plan(redis.call('HGET', plan, id) or '')
if not task or not column or task.generation ~= generation then
  return {'gone', now}
end
if not is_of_queue(due, task.queue) then
  return {'moved', now}
end
if redis.call('HEXISTS', paused, id) == 0 then
  redis.call('HSET', paused, id, table.concat({int(now), until_ms, by, reason}, '\t'))
  -- An ended task keeps its place: a claim takes it out of there.
  if not is_exhausted(column) then
    redis.call('ZADD', due, 'XX', looked_at(task, redis.call('HGET', paused, id)), id)
  end
end
keep_reply(replies, reply_times, op, now, 'paused')
return {'paused', now}
