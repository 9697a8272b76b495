#!lua flags=allow-oom
-- Ends a run that waits, or asks the worker of a live one to end it.
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
-- KEYS labels zset
-- KEYS unroutable hash
-- KEYS quarantine hash
-- KEYS history stream
-- KEYS replies hash
-- KEYS reply_times zset
-- KEYS skips hash
-- KEYS backfills hash
-- KEYS queue_keys… a pair of zsets: due:<queue>, waiting:<queue>
-- ARGV now_ms injected ms or empty
-- ARGV op operation id
-- ARGV run run id
-- ARGV by who asks for it
-- ARGV reason why
-- ARGV queues the name of the queue of queue_keys
-- ARGV channel where workers hear of runs that are to end
-- Reply: cancelled now_ms (it waited) | requested now_ms (it is live) | gone now_ms (it has ended) | expired now_ms
-- Reply: elsewhere now_ms queue
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
-- @include cancels
-- @include backfills
-- @include endings
local now = server_now(now_ms)
local keys = {tasks = tasks, plan = plan, open = open, remaining = remaining, waiting = waiting, held = held, cancels = cancels,
              last = last, streak = streak, paused = paused, skips = skips, backfills = backfills, labels = labels, unroutable = unroutable,
              quarantine = quarantine, replies = replies, reply_times = reply_times}
local known = redis.call('HGET', replies, op)
if known then
  return {known, now}
end
if is_expired(op, now) then
  return {'expired', now}
end
local id, _, mark = parse_run(run)
if not id or is_orphan(keys, run) then
  return {'gone', now}
end
local task = parse_task(redis.call('HGET', tasks, id) or '')
local waits = parse_waiting(redis.call('HGET', waiting, run) or '')
local queue = queues_by_name(queues, queue_keys)[task and task.queue or waits and waits.queue or queues]
if not queue or (waits and waits.queue ~= queue.name) then
  return {'elsewhere', now, waits and waits.queue or task.queue}
end
local function is_open()
  local runs_open = parse_open(redis.call('HGET', open, id))
  for _, one in ipairs(runs_open and runs_open.marks or {}) do
    if one == mark then
      return true
    end
  end
  return runs_open ~= nil and runs_open.count > #runs_open.marks
end
local status = 'gone'
if waits then
  status = 'cancelled'
  redis.call('ZREM', queue.waiting, run)
  redis.call('HDEL', waiting, run)
  local lines = {table.concat({'run', run, 'cancelled', int(waits.number), waits.nominal, '0', '0', '-', waits.queue}, '\t')}
  close_run(keys, run, 'cancelled', table.concat({waits.nominal, '0', '0', int(waits.number)}, ' '), queue, now, lines)
  write_ledger(history, lines)
elseif is_open() then
  status = 'requested'
  request_cancel(keys, channel, run, now, by, reason)
end
keep_reply(replies, reply_times, op, now, status)
return {status, now}
