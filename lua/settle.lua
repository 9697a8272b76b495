#!lua flags=allow-oom
-- Ends attempts, or gives them back. Only the holder of an attempt's token is heard.
-- KEYS live hash of the boot
-- KEYS tasks hash
-- KEYS plan hash
-- KEYS open hash
-- KEYS remaining hash
-- KEYS waiting hash
-- KEYS held hash
-- KEYS cancels hash
-- KEYS last hash
-- KEYS streak hash
-- KEYS paused hash
-- KEYS skips hash
-- KEYS backfills hash
-- KEYS labels zset
-- KEYS unroutable hash
-- KEYS quarantine hash
-- KEYS history stream
-- KEYS reports stream
-- KEYS progress hash
-- KEYS dead hash
-- KEYS dead_times zset
-- KEYS replies hash
-- KEYS reply_times zset
-- KEYS queue_keys… pairs of zsets: due:<queue>, waiting:<queue>
-- ARGV now_ms injected ms or empty
-- ARGV worker name
-- ARGV queues names joined by commas, in the order of queue_keys
-- ARGV settlements… groups of 9: run token action delay_ms started_ms duration_ms text result is_dead
--   action: ok failed timeout cancelled (the run ends) | retry (after delay_ms) | release | unroutable
-- Reply: ok now_ms (settled|stale|elsewhere <queue>)…: elsewhere, its task was moved to a queue that is not among the given
--   ones, and settling it may put a run there: settle it again with that one
-- @include clock
-- @include plan
-- @include task
-- @include runs
-- @include open
-- @include ledger
-- @include replies
-- @include queues
-- @include removal
-- @include held
-- @include dead
-- @include backfills
-- @include endings
-- @include park
local now = server_now(now_ms)
local keys = {tasks = tasks, plan = plan, open = open, remaining = remaining, waiting = waiting, held = held, cancels = cancels,
              last = last, streak = streak, paused = paused, skips = skips, backfills = backfills, labels = labels, unroutable = unroutable,
              quarantine = quarantine, replies = replies, reply_times = reply_times}
local reply, lines, gone = {'ok', now}, {}, {}
local any_progress = redis.call('HLEN', progress) > 0
local runs = {}
for i = 1, #settlements, 9 do
  runs[#runs + 1] = settlements[i]
end
local attempts = runs[1] and redis.call('HMGET', live, unpack(runs)) or {}

local by_name = queues_by_name(queues, queue_keys)

-- The queue of a run's task, or its own where the task cannot be read.
local function queue_name_of(run, attempt)
  local task = parse_task(redis.call('HGET', tasks, (parse_run(run))) or '')
  return task and task.queue or attempt.queue
end

local function give_back(run, attempt, action, delay_ms, queue, text)
  local id = parse_run(run)
  attempt.queue = queue.name
  local at = now + tonumber(delay_ms)
  if action == 'retry' then
    attempt.number = attempt.number + 1
  elseif action == 'unroutable' then
    local path, reason = string.match(text, '^(%S+) (.*)$')
    at = now + backoff_unroutable(unroutable, id, now, path or '-', run, reason or text)
  end
  redis.call('HSET', waiting, run, format_waiting(attempt))
  redis.call('ZADD', queue.waiting, at, run)
end

for i, run in ipairs(runs) do
  local _, token, action, delay_ms, started_ms, duration_ms, text, result, is_dead = unpack(settlements, 9 * i - 8, 9 * i)
  local attempt = attempts[i] and parse_live(attempts[i])
  local is_ours = attempt and attempt.token == token and not gone[run]
  if is_ours and is_orphan(keys, run) then
    action = 'cancelled'
  end
  local gives_back = action == 'retry' or action == 'release' or action == 'unroutable'
  local needs_queue = is_ours and (gives_back or is_awaited(keys, (parse_run(run))))
  local queue_name = needs_queue and queue_name_of(run, attempt)
  local queue = queue_name and by_name[queue_name]
  if needs_queue and not queue then
    reply[#reply + 1] = 'elsewhere ' .. queue_name
  elseif is_ours then
    gone[run] = true
    redis.call('HDEL', live, run)
    local line = table.concat({'run', run, action, int(attempt.number), attempt.nominal, started_ms, duration_ms, worker,
                               attempt.queue}, '\t')
    if action ~= 'release' then
      lines[#lines + 1] = line
    end
    if is_dead == '1' and action ~= 'cancelled' then
      keep_dead(dead, dead_times, run, action, attempt, redis.call('HGET', tasks, (parse_run(run))) or '', now)
    end
    if gives_back then
      give_back(run, attempt, action, delay_ms, queue, text)
    else
      close_run(keys, run, action, table.concat({attempt.nominal, started_ms, duration_ms, int(attempt.number)}, ' '),
                queue, now, lines)
    end
    if (text ~= '' or result ~= '') and action ~= 'unroutable' then
      redis.call('XADD', reports, 'MAXLEN', '~', 1000, '*', 'run', run, 'attempt', int(attempt.number), 'outcome', action,
                 'error', text, 'result', result)
    end
    reply[#reply + 1] = 'settled'
  else
    reply[#reply + 1] = 'stale'
  end
end
for run in pairs(gone) do
  if any_progress then
    redis.call('HDEL', progress, run)
  end
end
write_ledger(history, lines)
return reply
