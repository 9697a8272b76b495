-- Gives a dead run another chance: it waits to be claimed again, as its next attempt.
-- KEYS tasks hash
-- KEYS open hash
-- KEYS waiting hash
-- KEYS dead hash
-- KEYS dead_times zset
-- KEYS replies hash
-- KEYS reply_times zset
-- KEYS waiting_queue zset waiting:<queue>
-- ARGV now_ms injected ms or empty
-- ARGV op operation id
-- ARGV run run id
-- Reply: requeued now_ms | gone now_ms (no such dead run) | ended now_ms (its task is gone) | busy now_ms | expired now_ms
--   | moved now_ms (its task is in another queue: load it again)
-- @include clock
-- @include plan
-- @include task
-- @include runs
-- @include open
-- @include replies
-- @include dead
local now = server_now(now_ms)
if redis.call('HEXISTS', replies, op) == 1 then
  return {'requeued', now}
end
if is_expired(op, now) then
  return {'expired', now}
end
local attempt = parse_dead(redis.call('HGET', dead, run))
if not attempt then
  return {'gone', now}
end
local id, generation, mark = parse_run(run)
local task = parse_task(redis.call('HGET', tasks, id) or '')
local runs_open = parse_open(redis.call('HGET', open, id))
if not task or task.generation ~= generation or not runs_open then
  return {'ended', now}
end
if is_full(task, runs_open) then
  return {'busy', now}
end
if not is_of_queue(waiting_queue, task.queue) then
  return {'moved', now}
end
forget_dead(dead, dead_times, {run})
count_in(runs_open, mark)
store_open(open, id, runs_open)
attempt.number, attempt.losses, attempt.queue = attempt.number + 1, 0, task.queue
redis.call('HSET', waiting, run, format_waiting(attempt))
redis.call('ZADD', waiting_queue, now, run)
keep_reply(replies, reply_times, op, now, 'requeued')
return {'requeued', now}
