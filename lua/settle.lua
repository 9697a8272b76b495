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
-- KEYS history stream
-- KEYS failures stream
-- KEYS replies hash
-- KEYS reply_times zset
-- KEYS waiting_queues… zsets waiting:<queue>, one a settlement
-- ARGV now_ms injected ms or empty
-- ARGV worker name
-- ARGV settlements… groups of 7: run token action delay_ms started_ms duration_ms text
--   action: ok failed timeout cancelled (the run ends) | retry (after delay_ms) | release | unroutable
-- Reply: ok now_ms (settled|stale)…
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
              unroutable = unroutable, replies = replies, reply_times = reply_times}
local reply, lines, gone = {'ok', now}, {}, {}
local runs = {}
for i = 1, #settlements, 7 do
  runs[#runs + 1] = settlements[i]
end
local held = runs[1] and redis.call('HMGET', live, unpack(runs)) or {}

local function give_back(run, attempt, action, delay_ms, queue_key, text)
  local id = parse_run(run)
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
  if attempt and attempt.token == token and not gone[run] then
    gone[run] = true
    redis.call('HDEL', live, run)
    if is_orphan(keys, run) then
      action = 'cancelled'
    end
    local line = table.concat({'run', run, action, int(attempt.number), attempt.nominal, started_ms, duration_ms, worker,
                               attempt.queue}, '\t')
    if action ~= 'release' then
      lines[#lines + 1] = line
    end
    if action == 'retry' or action == 'release' or action == 'unroutable' then
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
