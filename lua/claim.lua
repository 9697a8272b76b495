-- Decides due occurrences and hands the admitted ones to a worker as attempts.
-- KEYS meta hash
-- KEYS workers hash
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
-- KEYS replies hash
-- KEYS reply_times zset
-- KEYS live hash of the boot
-- KEYS queue_keys… pairs of zsets: due:<queue>, waiting:<queue>
-- ARGV now_ms injected ms or empty
-- ARGV boot boot id
-- ARGV seq number, the last one or one more
-- ARGV slots number of attempts wanted, 1 to 100
-- ARGV queues names joined by commas, in the order of queue_keys
-- ARGV refused_paths… dotted paths this worker cannot or may not call
-- Reply: ok now_ms next_due_ms(-1 none) backlog(0|1) watch(0|1|2) attempts replans lows
--   attempt: run token number losses nominal previous queue record; replan and low: id plan record queue
-- Reply: refused now_ms | out-of-turn now_ms
-- @include clock
-- @include sequence
-- @include plan
-- @include task
-- @include runs
-- @include ledger
-- @include replies
-- @include removal
-- @include endings
-- @include park
-- @include missed
-- @include misfire
-- @include candidates
-- @include watch
local now = server_now(now_ms)
local keys = {tasks = tasks, plan = plan, open = open, remaining = remaining, labels = labels, last = last, paused = paused,
              unroutable = unroutable, quarantine = quarantine, replies = replies, reply_times = reply_times}
local lease, last_seq, rest = string.match(redis.call('HGET', workers, boot) or '', '^up (%d+) (%d+) (.*)$')
if not lease then
  return {'refused', now}
end
local function attempt_reply(run, live_run, record)
  return {run, live_run.token, live_run.number, live_run.losses, live_run.nominal, live_run.previous, live_run.queue, record}
end
if seq == last_seq then
  local attempts = {}
  local held = redis.call('HGETALL', live)
  for i = 1, #held, 2 do
    local run = parse_live(held[i + 1])
    if run and run.seq == seq then
      -- A run of a task that was deleted since gets no record, not that of another task with its id.
      local record = not is_orphan(keys, held[i]) and redis.call('HGET', tasks, (parse_run(held[i])))
      attempts[#attempts + 1] = attempt_reply(held[i], run, record or '')
    end
  end
  return {'ok', now, -1, 1, 0, attempts, {}, {}}
end
if tonumber(seq) ~= tonumber(last_seq) + 1 then
  return {'out-of-turn', now}
end

local is_refused = {}
for _, path in ipairs(refused_paths) do
  is_refused[path] = true
end
local queue_names = {}
for name in string.gmatch(queues, '[^,]+') do
  queue_names[#queue_names + 1] = name
end
local wanted = tonumber(slots)
local any_unroutable = redis.call('HLEN', unroutable) > 0
if any_unroutable then
  hasten_unroutable(unroutable, queue_keys, is_refused, now)
end
local found = due_candidates(queue_keys, now, math.min(100, wanted + 16))
local column = {tasks = {}, plan = {}, open = {}, remaining = {}}
if redis.call('HLEN', paused) > 0 then
  column.paused = {}
end
if found[1] then
  local ids = {}
  for i, c in ipairs(found) do
    c.id = c.is_run and (parse_run(c.member) or '') or c.member
    ids[i] = c.id
  end
  for name, values in pairs(column) do
    for i, value in ipairs(redis.call('HMGET', keys[name], unpack(ids))) do
      values[ids[i]] = value
    end
  end
end
-- A count that is there can be read; checked before the first write, which nothing would undo.
local function is_count(value)
  return not value or string.match(value, '^%d+$') ~= nil
end
local grants, lines, replans, lows = {}, {}, {}, {}
local plans, write_plan, write_open = {}, {}, {}

local function plan_of(id)
  if not plans[id] and column.plan[id] then
    plans[id] = parse_plan(column.plan[id])
  end
  return plans[id]
end

local function grant(run, candidate, fields)
  fields.queue, fields.started, fields.seq = queue_names[candidate.queue], '0', seq
  grants[#grants + 1] = {run = run, live = fields, record = column.tasks[candidate.id]}
  if any_unroutable then
    redis.call('HDEL', unroutable, candidate.id)
  end
end

local function claim_run(c, task)
  local generation = select(2, parse_run(c.member))
  local plan_now = plan_of(c.id)
  local text = redis.call('HGET', waiting, c.member)
  local run = text and parse_waiting(text)
  local is_current = plan_now and plan_now.generation == generation
  if (column.plan[c.id] and not plan_now) or (is_current and (not task or not run)) then
    redis.call('HSET', quarantine, c.id, 'a waiting run, the task or its plan cannot be read')
    redis.call('ZADD', c.waiting_key, now + 30000, c.member)
  elseif not is_current then
    redis.call('ZREM', c.waiting_key, c.member)
    redis.call('HDEL', waiting, c.member)
    lines[#lines + 1] = table.concat({'run', c.member, 'cancelled', '0', '0', '0', '0', '-', 'gone'}, '\t')
  elseif is_refused[task.path] then
    redis.call('ZADD', c.waiting_key, now + backoff_unroutable(unroutable, c.id, now, task.path, c.member), c.member)
  else
    redis.call('ZREM', c.waiting_key, c.member)
    redis.call('HDEL', waiting, c.member)
    grant(c.member, c, run)
  end
end

local function admit(c, plan_now, nominal)
  local id = c.id
  grant(id .. ':' .. plan_now.generation .. ':' .. int(nominal), c,
        {number = 1, losses = 0, nominal = int(nominal), previous = plan_now.admitted and int(plan_now.admitted) or '-'})
  column.open[id] = int(tonumber(column.open[id] or '0') + 1)
  write_open[id] = column.open[id]
  plan_now.admitted = nominal
  if column.remaining[id] then
    local left = tonumber(column.remaining[id]) - 1
    column.remaining[id] = int(left)
    redis.call('HSET', remaining, id, int(left))
    if left <= 0 then
      plan_now.segments, plan_now.complete = {}, true
    end
  end
end

local function is_held(id, task)
  return not task.enabled or (column.paused and column.paused[id]) or false
end

local function reschedule(c, task, plan_now)
  local id, first = c.id, plan_now.segments[1]
  if is_held(id, task) and not is_exhausted(plan_now) then
    redis.call('ZADD', c.due_key, held_until(task), id)
  elseif first then
    redis.call('ZADD', c.due_key, due_instant(id, first[1], task.jitter), id)
    if not plan_now.complete and first[3] ~= math.huge and #plan_now.segments <= 2
       and (count_until(plan_now.segments, math.huge) < 2 or last_instant(plan_now.segments) < now + 21600000) then
      lows[#lows + 1] = {id, format_plan(plan_now), column.tasks[id], task.queue}
    end
  elseif not plan_now.complete then
    redis.call('ZADD', c.due_key, now + 2000, id)
    replans[#replans + 1] = {id, format_plan(plan_now), column.tasks[id], task.queue}
  else
    redis.call('ZREM', c.due_key, id)
    if not column.open[id] then
      write_plan[id] = nil
      remove_task(keys, id, now)
      lines[#lines + 1] = end_line(id, plan_now.generation, 'end', task)
      return
    end
  end
  write_plan[id] = format_plan(plan_now)
end

local function claim_task(c, task)
  local plan_now = plan_of(c.id)
  local unreadable = (not task and 'the task') or (not plan_now and 'the plan')
    or (not is_count(column.open[c.id]) and 'the number of its open runs')
    or (not is_count(column.remaining[c.id]) and 'the number of its iterations left')
  if unreadable then
    park(c.due_key, quarantine, c.id, unreadable .. ' cannot be read')
  elseif is_held(c.id, task) and not is_exhausted(plan_now) then
    if task.end_ms > 0 and task.end_ms <= now then
      local reason, beside = task.enabled and 'paused' or 'disabled', plan_now.beside
      lines[#lines + 1] = missed_line(c.id, plan_now, reason, now)
      lines[#lines + 1] = beside and skip_line(c.id, plan_now.generation, reason, 1, beside, beside)
      plan_now.segments, plan_now.complete, plan_now.beside = {}, true, nil
      plan_now.cursor = math.max(plan_now.cursor, now)
    end
    reschedule(c, task, plan_now)
  elseif is_refused[task.path] then
    redis.call('ZADD', c.due_key, now + backoff_unroutable(unroutable, c.id, now, task.path, c.member), c.id)
  else
    local too_short = drop_late(task, c.id, plan_now, now, lines)
    if too_short then
      plan_now.segments = {}
    end
    local first = plan_now.segments[1]
    if first and due_instant(c.id, first[1], task.jitter) <= now then
      local nominal = drop(plan_now.segments, 1)
      plan_now.beside = nil
      if task.overlap == 'skip' and column.open[c.id] then
        lines[#lines + 1] = skip_line(c.id, plan_now.generation, 'overlap', 1, nominal, nominal)
      else
        admit(c, plan_now, nominal)
      end
      plan_now.cursor = math.max(plan_now.cursor, nominal)
    end
    reschedule(c, task, plan_now)
  end
end

for _, c in ipairs(found) do
  if #grants >= wanted then
    break
  end
  local record = column.tasks[c.id]
  local task = record and parse_task(record)
  if c.is_run then
    claim_run(c, task)
  else
    claim_task(c, task)
  end
end

local attempts = {}
if grants[1] then
  local token = take_sequence(meta, now, #grants)
  local fields = {}
  for i, g in ipairs(grants) do
    g.live.token = int(token + i - 1)
    fields[#fields + 1] = g.run
    fields[#fields + 1] = format_live(g.live)
    attempts[i] = attempt_reply(g.run, g.live, g.record)
  end
  redis.call('HSET', live, unpack(fields))
end
local function write_column(key, values)
  local fields = {}
  for id, value in pairs(values) do
    fields[#fields + 1] = id
    fields[#fields + 1] = value
  end
  if fields[1] then
    redis.call('HSET', key, unpack(fields))
  end
end
write_column(plan, write_plan)
write_column(open, write_open)
redis.call('HSET', workers, boot, table.concat({'up', lease, seq, rest}, ' '))
write_ledger(history, lines)
local soonest = next_due(queue_keys)
local backlog = soonest <= now and 1 or 0
local watching = keep_watch(meta, boot, now, #grants < wanted and backlog == 0, soonest)
return {'ok', now, soonest == math.huge and -1 or soonest - now, backlog, watching, attempts, replans, lows}
