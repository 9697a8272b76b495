#!lua flags=allow-oom
-- Ends attempts, or gives them back. Only the holder of an attempt's token is heard.
-- KEYS live hash of the boot
-- KEYS tasks hash
-- KEYS plan hash
-- KEYS open hash
-- KEYS remaining hash
-- KEYS waiting hash
-- KEYS last hash
-- KEYS paused hash
-- KEYS labels zset
-- KEYS unroutable hash
-- KEYS quarantine hash
-- KEYS history stream
-- KEYS failures stream
-- KEYS replies hash
-- KEYS reply_times zset
-- KEYS waiting_queues… zsets waiting:<queue>, one a settlement
-- ARGV now_ms injected ms or empty
-- ARGV worker name
-- ARGV settlements… groups of 7: run token action delay_ms started_ms duration_ms text
--   action: ok failed timeout cancelled (the run ends) | retry (after delay_ms) | release | unroutable
-- Reply: ok now_ms (settled|stale|elsewhere <queue>)…: elsewhere, the run is to wait in the queue its task was moved to:
--   settle it again with that key
-- @include clock
-- @include plan
-- @include task
-- @include runs
-- @include ledger
-- @include replies
-- @include removal
-- @include endings
-- @include park
local now = server_now(now_ms)
local keys = {tasks = tasks, plan = plan, open = open, remaining = remaining, labels = labels, last = last, paused = paused,
              unroutable = unroutable, quarantine = quarantine, replies = replies, reply_times = reply_times}
local reply, lines, gone = {'ok', now}, {}, {}
local runs = {}
for i = 1, #settlements, 7 do
  runs[#runs + 1] = settlements[i]
end
local held = runs[1] and redis.call('HMGET', live, unpack(runs)) or {}

-- The queue a run has to wait in where its task was moved to another one than the caller knows.
local function other_queue(run, queue_key)
  local task = parse_task(redis.call('HGET', tasks, (parse_run(run))) or '')
  return task and not is_of_queue(queue_key, task.queue) and task.queue
end

local function give_back(run, attempt, action, delay_ms, queue_key, text)
  local id = parse_run(run)
  attempt.queue = string.match(queue_key, '([^:]+)$')
  local at = now + tonumber(delay_ms)
  if action == 'retry' then
    attempt.number = attempt.number + 1
  elseif action == 'unroutable' then
    local path, reason = string.match(text, '^(%S+) (.*)$')
    at = now + backoff_unroutable(unroutable, id, now, path or '-', run, reason or text)
  end
  redis.call('HSET', waiting, run, format_waiting(attempt))
  redis.call('ZADD', queue_key, at, run)
end

for i, run in ipairs(runs) do
  local _, token, action, delay_ms, started_ms, duration_ms, text = unpack(settlements, 7 * i - 6, 7 * i)
  local attempt = held[i] and parse_live(held[i])
  local is_ours = attempt and attempt.token == token and not gone[run]
  if is_ours and is_orphan(keys, run) then
    action = 'cancelled'
  end
  local gives_back = action == 'retry' or action == 'release' or action == 'unroutable'
  local elsewhere = is_ours and gives_back and other_queue(run, waiting_queues[i])
  if elsewhere then
    reply[#reply + 1] = 'elsewhere ' .. elsewhere
  elseif is_ours then
    gone[run] = true
    redis.call('HDEL', live, run)
    local line = table.concat({'run', run, action, int(attempt.number), attempt.nominal, started_ms, duration_ms, worker,
                               attempt.queue}, '\t')
    if action ~= 'release' then
      lines[#lines + 1] = line
    end
    if gives_back then
      give_back(run, attempt, action, delay_ms, waiting_queues[i], text)
    else
      close_run(keys, run, table.concat({action, attempt.nominal, started_ms, duration_ms, int(attempt.number)}, ' '),
                now, lines)
    end
    if text ~= '' and action ~= 'unroutable' then
      redis.call('XADD', failures, 'MAXLEN', '~', 1000, '*', 'run', run, 'attempt', int(attempt.number),
                 'outcome', action, 'error', text)
    end
    reply[#reply + 1] = 'settled'
  else
    reply[#reply + 1] = 'stale'
  end
end
write_ledger(history, lines)
return reply
