#!lua flags=allow-oom
-- Lets a paused task's schedule go on, strictly after now; a one-off that nobody decided is due.
-- KEYS tasks hash
-- KEYS plan hash
-- KEYS open hash
-- KEYS remaining hash
-- KEYS waiting hash
-- KEYS held hash
-- KEYS streak hash
-- KEYS paused hash
-- KEYS due zset due:<queue>
-- KEYS waiting_queue zset waiting:<queue>
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
-- @include runs
-- @include open
-- @include ledger
-- @include held
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
  local lines = {missed_line(id, column, 'paused', now)}
  column.cursor = math.max(column.cursor, now)
  redis.call('HDEL', streak, id)
  redis.call('HSET', plan, id, format_plan(column))
  local keys = {plan = plan, open = open, remaining = remaining, waiting = waiting, held = held, paused = paused}
  local runs_open = parse_open(redis.call('HGET', open, id)) or {count = 0, marks = {}}
  release_held(keys, id, task, column, runs_open, {due = due, waiting = waiting_queue}, now, lines)
  store_open(open, id, runs_open)
  if is_exhausted(column) and redis.call('HEXISTS', open, id) == 1 then
    redis.call('ZREM', due, id)
  elseif task.enabled == 1 or is_exhausted(column) then
    local first = column.segments[1]
    redis.call('ZADD', due, first and due_instant(id, first[1], task.jitter) or now, id)
  end
  write_ledger(history, lines)
end
keep_reply(replies, reply_times, op, now, 'resumed')
return {'resumed', now}
