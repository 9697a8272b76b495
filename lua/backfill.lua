-- Runs past instants of a task again, a few at a time.
-- KEYS tasks hash
-- KEYS open hash
-- KEYS waiting hash
-- KEYS backfills hash
-- KEYS history stream
-- KEYS replies hash
-- KEYS reply_times zset
-- KEYS waiting_queue zset waiting:<queue>
-- ARGV now_ms injected ms or empty
-- ARGV op operation id
-- ARGV id task id
-- ARGV generation as loaded
-- ARGV name the backfill's id
-- ARGV max_running how many of its runs may be open
-- ARGV total how many instants there are
-- ARGV segments the instants
-- Reply: started now_ms | busy now_ms (the task has a backfill already) | gone now_ms | expired now_ms
--   | moved now_ms (to another queue: load it again)
-- @include clock
-- @include plan
-- @include task
-- @include runs
-- @include open
-- @include ledger
-- @include replies
-- @include backfills
local now = server_now(now_ms)
if redis.call('HEXISTS', replies, op) == 1 then
  return {'started', now}
end
if is_expired(op, now) then
  return {'expired', now}
end
local task = parse_task(redis.call('HGET', tasks, id) or '')
local runs_open = parse_open(redis.call('HGET', open, id))
local instants = parse_segments(segments)
if not task or task.generation ~= generation or not runs_open or not instants then
  return {'gone', now}
end
if redis.call('HEXISTS', backfills, id) == 1 then
  return {'busy', now}
end
if not is_of_queue(waiting_queue, task.queue) then
  return {'moved', now}
end
local b = {name = name, generation = generation, max_running = tonumber(max_running), open = 0, ended = 0, failed = 0,
           total = tonumber(total), last = '-', segments = instants}
local lines = {}
advance_backfill({waiting = waiting, backfills = backfills}, id, b, task, runs_open, waiting_queue, now, lines)
store_open(open, id, runs_open)
keep_reply(replies, reply_times, op, now, 'started')
write_ledger(history, lines)
return {'started', now}
