#!lua flags=allow-oom
-- Lets a paused task's schedule go on, strictly after now; a one-off that nobody decided is due.
-- KEYS tasks hash
-- KEYS plan hash
-- KEYS open hash
-- KEYS paused hash
-- KEYS due zset due:<queue>
-- KEYS history stream
-- KEYS replies hash
-- KEYS reply_times zset
-- ARGV now_ms injected ms or empty
-- ARGV op operation id
-- ARGV id task id
-- ARGV generation as loaded
-- Reply: resumed now_ms | gone now_ms | expired now_ms | moved now_ms (to another queue: load it again)
-- @include clock
-- @include plan
-- @include task
-- @include ledger
-- @include missed
-- @include replies
local now = server_now(now_ms)
if redis.call('HEXISTS', replies, op) == 1 then
  return {'resumed', now}
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
if redis.call('HDEL', paused, id) == 1 and redis.call('ZSCORE', due, id) then
  write_ledger(history, {missed_line(id, column, 'paused', now)})
  column.cursor = math.max(column.cursor, now)
  redis.call('HSET', plan, id, format_plan(column))
  if is_exhausted(column) and redis.call('HEXISTS', open, id) == 1 then
    redis.call('ZREM', due, id)
  elseif task.enabled or is_exhausted(column) then
    local first = column.segments[1]
    redis.call('ZADD', due, first and due_instant(id, first[1], task.jitter) or now, id)
  end
end
keep_reply(replies, reply_times, op, now, 'resumed')
return {'resumed', now}
