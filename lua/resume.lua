#!lua flags=allow-oom
-- Lets a paused task's schedule go on, strictly after now.
-- KEYS tasks hash
-- KEYS plan hash
-- KEYS open hash
-- KEYS paused hash
-- KEYS due zset due:<queue>
-- KEYS history stream
-- ARGV now_ms injected ms or empty
-- ARGV id task id
-- ARGV generation as loaded
-- ARGV version as loaded
-- ARGV is_active 0 when the task is not enabled
-- Reply: resumed now_ms | gone now_ms | moved now_ms (changed since: load it again)
-- @include clock
-- @include plan
-- @include task
-- @include ledger
-- @include missed
local now = server_now(now_ms)
local task = parse_task(redis.call('HGET', tasks, id) or '')
local column = parse_plan(redis.call('HGET', plan, id) or '')
if not task or not column or task.generation ~= generation then
  return {'gone', now}
end
if task.version ~= version or not is_of_queue(due, task.queue) then
  return {'moved', now}
end
if redis.call('HDEL', paused, id) == 1 and redis.call('ZSCORE', due, id) then
  write_ledger(history, {missed_line(id, column, 'paused', now)})
  column.cursor = math.max(column.cursor, now)
  redis.call('HSET', plan, id, format_plan(column))
  if is_exhausted(column) and redis.call('HEXISTS', open, id) == 1 then
    redis.call('ZREM', due, id)
  elseif is_active == '1' or is_exhausted(column) then
    local first = column.segments[1]
    redis.call('ZADD', due, first and due_instant(id, first[1], task.jitter) or now, id)
  end
end
return {'resumed', now}
