-- Admits an extra run at once, beside the schedule.
-- KEYS tasks hash
-- KEYS plan hash
-- KEYS open hash
-- KEYS remaining hash
-- KEYS waiting hash
-- KEYS replies hash
-- KEYS reply_times zset
-- KEYS due zset due:<queue>
-- KEYS waiting_queue zset waiting:<queue>
-- ARGV now_ms injected ms or empty
-- ARGV op operation id
-- ARGV id task id
-- ARGV generation as loaded
-- ARGV counts 1 when the run costs an iteration
-- Reply: triggered now_ms run | gone now_ms | expired now_ms | busy now_ms | spent now_ms
--   | moved now_ms (to another queue: load it again)
-- @include clock
-- @include plan
-- @include task
-- @include runs
-- @include open
-- @include replies
local now = server_now(now_ms)
local known = redis.call('HGET', replies, op)
if known then
  return {'triggered', now, known}
end
if is_expired(op, now) then
  return {'expired', now}
end
local task = parse_task(redis.call('HGET', tasks, id) or '')
local column = parse_plan(redis.call('HGET', plan, id) or '')
if not task or not column or task.generation ~= generation then
  return {'gone', now}
end
local runs_open = parse_open(redis.call('HGET', open, id))
if not runs_open then
  return {'gone', now}
end
if is_full(task, runs_open) then
  return {'busy', now}
end
if not is_of_queue(waiting_queue, task.queue) then
  return {'moved', now}
end
if is_exhausted(column) then
  return {'spent', now}
end
local left = counts == '1' and tonumber(redis.call('HGET', remaining, id) or '')
if left then
  redis.call('HSET', remaining, id, int(left - 1))
  if left <= 1 then
    column.segments, column.complete = {}, true
    redis.call('HSET', plan, id, format_plan(column))
    redis.call('ZREM', due, id)
  end
end
local run = id .. ':' .. generation .. ':t' .. op
count_in(runs_open, 't' .. op)
store_open(open, id, runs_open)
redis.call('HSET', waiting, run, format_waiting({number = 1, losses = 0, nominal = int(now),
           previous = column.admitted and int(column.admitted) or '-', queue = task.queue}))
redis.call('ZADD', waiting_queue, now, run)
keep_reply(replies, reply_times, op, now, run)
return {'triggered', now, run}
