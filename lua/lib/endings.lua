-- The generation of the task that has this id now; nil for none, '' where it cannot be read.
local function generation_of(keys, id)
  local record = redis.call('HGET', keys.tasks, id)
  local found = record and string.match(record, '^%d+ (%d+) ')
  if found then
    return found
  end
  local text = redis.call('HGET', keys.plan, id)
  return text and (string.match(text, '^(%d+) ') or '') or (record and '' or nil)
end

-- A run of a task that was deleted, even where another has its id now: it may end, and touches nothing.
local function is_orphan(keys, run)
  local id, generation = parse_run(run)
  local found = generation_of(keys, id)
  return not found or (found ~= '' and found ~= generation)
end

-- Failed runs in a row; a task that asked for it is paused when there are too many.
local function note_failure(keys, id, task, outcome, now)
  if task.pause_after == 0 then
    return
  end
  if outcome ~= 'failed' and outcome ~= 'timeout' and outcome ~= 'lost' then
    if outcome == 'ok' then
      redis.call('HDEL', keys.streak, id)
    end
    return
  end
  local failures = redis.call('HINCRBY', keys.streak, id, 1)
  if failures >= task.pause_after and redis.call('HEXISTS', keys.paused, id) == 0 then
    local reason = int(failures) .. ' failed runs in a row'
    redis.call('HSET', keys.paused, id, table.concat({int(now), '-', 'sisy', reason}, '\t'))
  end
end

-- Whether something of a task still waits to become a run.
local function is_awaited(keys, id)
  return redis.call('HEXISTS', keys.held, id) == 1 or redis.call('HEXISTS', keys.backfills, id) == 1
end

-- A task that has ended leaves with its last open run. What cannot be read is reported instead.
local function end_task(keys, id, generation, task, plan, now, lines)
  if not task or not plan then
    redis.call('HSET', keys.quarantine, id, (task and 'the plan' or 'the task') .. ' cannot be read')
  elseif is_exhausted(plan) and not is_awaited(keys, id) then
    local iterations_left = redis.call('HGET', keys.remaining, id)
    remove_task(keys, id, now)
    lines[#lines + 1] = end_line(id, generation, iterations_left == '0' and 'iterations' or 'end', task)
  end
end

-- The end of a run: its task has one open run less, and what was held back for it is released.
local function close_run(keys, run, outcome, text, queue, now, lines)
  redis.call('HDEL', keys.cancels, run)
  if is_orphan(keys, run) then
    return
  end
  local id, generation, mark = parse_run(run)
  local plan = parse_plan(redis.call('HGET', keys.plan, id) or '')
  local open = parse_open(redis.call('HGET', keys.open, id)) or {count = 1, marks = {}}
  local is_backfill = string.sub(mark, 1, 1) == 'b'
  if not is_backfill then
    redis.call('HSET', keys.last, id, outcome .. ' ' .. text)
  end
  count_out(open, mark)
  local is_last = open.count == 0 and (not plan or is_exhausted(plan))
  if not is_awaited(keys, id) and not is_last and outcome == 'ok' and redis.call('HEXISTS', keys.streak, id) == 0 then
    store_open(keys.open, id, open)
    return
  end
  local task = parse_task(redis.call('HGET', keys.tasks, id) or '')
  if task then
    if not is_backfill then
      note_failure(keys, id, task, outcome, now)
    end
    release_held(keys, id, task, plan, open, queue, now, lines)
  end
  backfill_after(keys, id, mark, outcome, task, open, queue and queue.waiting, now, lines)
  store_open(keys.open, id, open)
  if open.count == 0 and (not task or not plan or is_exhausted(plan)) then
    end_task(keys, id, generation, task, plan, now, lines)
  end
end
