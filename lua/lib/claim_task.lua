-- A task whose next occurrence is due: it is admitted, held back, or decided with its reason, and the task moves on.
local function admit(claim, c, plan, nominal)
  local id, remaining = c.id, claim.column.remaining
  local open = open_of(claim, id)
  grant(claim, id .. ':' .. plan.generation .. ':' .. int(nominal), c,
        {number = 1, losses = 0, nominal = int(nominal), previous = plan.admitted and int(plan.admitted) or '-'})
  count_in(open, int(nominal))
  claim.write_open[id] = format_open(open)
  plan.admitted = nominal
  if remaining[id] then
    local left = tonumber(remaining[id]) - 1
    remaining[id] = int(left)
    redis.call('HSET', claim.keys.remaining, id, int(left))
    if left <= 0 then
      plan.segments, plan.complete = {}, true
    end
  end
end

-- Ends every open run of a task that waits, and asks the workers of the others to end theirs.
local function cancel_open(claim, c, plan, open)
  local keys = claim.keys
  for _, mark in ipairs({unpack(open.marks)}) do
    local run_id = c.id .. ':' .. plan.generation .. ':' .. mark
    local run = parse_waiting(redis.call('HGET', keys.waiting, run_id) or '')
    if run and redis.call('ZREM', c.waiting_key, run_id) == 1 then
      redis.call('HDEL', keys.waiting, run_id)
      redis.call('HSET', keys.last, c.id, table.concat({'cancelled', run.nominal, '0', '0', int(run.number)}, ' '))
      claim.lines[#claim.lines + 1] = table.concat({'run', run_id, 'cancelled', int(run.number), run.nominal, '0', '0', '-',
                                                    run.queue}, '\t')
      claim.closed[run_id] = true
      count_out(open, mark)
      claim.write_open[c.id] = format_open(open)
    else
      request_cancel(keys, claim.channel, run_id, claim.now, '-', 'overlap')
    end
  end
end

local function decide(claim, c, task, plan, nominal)
  local keys, lines, id = claim.keys, claim.lines, c.id
  local skips = tonumber(claim.column.skips[id] or '0') or 0
  local open = open_of(claim, id)
  if skips > 0 then
    claim.column.skips[id] = skips > 1 and int(skips - 1) or nil
    if skips > 1 then
      redis.call('HSET', keys.skips, id, int(skips - 1))
    else
      redis.call('HDEL', keys.skips, id)
    end
    lines[#lines + 1] = skip_line(id, plan.generation, 'skipped', 1, nominal, nominal)
    return
  end
  if task.overlap == 'cancel_other' and is_full(task, open) then
    cancel_open(claim, c, plan, open)
  end
  if not is_full(task, open) then
    admit(claim, c, plan, nominal)
  elseif task.overlap == 'skip' then
    lines[#lines + 1] = skip_line(id, plan.generation, 'overlap', 1, nominal, nominal)
  else
    local held = parse_held(redis.call('HGET', keys.held, id))
    local gone, reason = hold_back(held, task, nominal)
    if gone then
      lines[#lines + 1] = skip_line(id, plan.generation, reason, 1, gone, gone)
    end
    store_held(keys.held, id, held)
  end
end

local function is_held(claim, id, task)
  return task.enabled ~= 1 or claim.column.paused[id] ~= nil
end

local function reschedule(claim, c, task, plan)
  local id, first, keys = c.id, plan.segments[1], claim.keys
  if is_held(claim, id, task) and not is_exhausted(plan) then
    redis.call('ZADD', c.due_key, looked_at(task, claim.column.paused[id]), id)
  elseif first then
    redis.call('ZADD', c.due_key, due_instant(id, first[1], task.jitter), id)
    if not plan.complete and first[3] ~= math.huge and #plan.segments <= 2
       and (count_until(plan.segments, math.huge) < 2 or last_instant(plan.segments) < claim.now + 21600000) then
      claim.lows[#claim.lows + 1] = {id, format_plan(plan), claim.column.tasks[id], task.queue}
    end
  elseif not plan.complete then
    redis.call('ZADD', c.due_key, claim.now + 2000, id)
    claim.replans[#claim.replans + 1] = {id, format_plan(plan), claim.column.tasks[id], task.queue}
  else
    redis.call('ZREM', c.due_key, id)
    if open_of(claim, id).count == 0 and not is_awaited(keys, id) then
      claim.write_plan[id] = nil
      remove_task(keys, id, claim.now)
      claim.lines[#claim.lines + 1] = end_line(id, plan.generation, 'end', task)
      return
    end
  end
  claim.write_plan[id] = format_plan(plan)
end

-- A task whose schedule is held was due because its pause or the task itself ends now.
local function claim_held(claim, c, task, plan)
  local now, paused = claim.now, claim.column.paused
  local until_ms = paused[c.id] and pause_end(paused[c.id])
  if task['end'] > 0 and task['end'] <= now then
    local reason, beside = task.enabled == 1 and 'paused' or 'disabled', plan.beside
    claim.lines[#claim.lines + 1] = missed_line(c.id, plan, reason, now)
    claim.lines[#claim.lines + 1] = beside and skip_line(c.id, plan.generation, reason, 1, beside, beside) or nil
    drop_held(claim.keys, c.id, plan, claim.lines)
    plan.segments, plan.complete, plan.beside = {}, true, nil
    plan.cursor = math.max(plan.cursor, now)
  elseif until_ms and until_ms <= now then
    redis.call('HDEL', claim.keys.paused, c.id)
    paused[c.id] = nil
    claim.lines[#claim.lines + 1] = missed_line(c.id, plan, 'paused', now)
    plan.cursor = math.max(plan.cursor, now)
    local open = open_of(claim, c.id)
    release_held(claim.keys, c.id, task, plan, open, {due = c.due_key, waiting = c.waiting_key}, now, claim.lines)
    if open.count > 0 then
      claim.write_open[c.id] = format_open(open)
    end
  end
  reschedule(claim, c, task, plan)
end

local function why_unreadable(claim, id, task, plan)
  return (not task and 'the task') or (not plan and 'the plan')
    or (not open_of(claim, id) and 'the number of its open runs')
    or (not string.match(claim.column.remaining[id] or '0', '^%d+$') and 'the number of its iterations left')
end

local function claim_task(claim, c, task)
  local plan, id, now = plan_of(claim, c.id), c.id, claim.now
  -- Before the first write, which nothing would undo.
  local unreadable = why_unreadable(claim, id, task, plan)
  if unreadable then
    park(c.due_key, claim.keys.quarantine, id, unreadable .. ' cannot be read')
  elseif is_held(claim, id, task) and not is_exhausted(plan) then
    claim_held(claim, c, task, plan)
  elseif refused_path(claim, id, task) then
    local wait = backoff_unroutable(claim.keys.unroutable, id, now, refused_path(claim, id, task), c.member)
    redis.call('ZADD', c.due_key, now + wait, id)
  else
    local too_short = drop_late(task, id, plan, now, claim.lines)
    if too_short then
      plan.segments = {}
    end
    local first = plan.segments[1]
    if first and due_instant(id, first[1], task.jitter) <= now then
      local nominal = drop(plan.segments, 1)
      plan.beside = nil
      decide(claim, c, task, plan, nominal)
      plan.cursor = math.max(plan.cursor, nominal)
    end
    reschedule(claim, c, task, plan)
  end
end
