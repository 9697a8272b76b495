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

-- The end of a run: its task has one open run less, and a task that has ended leaves with its last one.
local function close_run(keys, run, outcome, now, lines)
  if is_orphan(keys, run) then
    return
  end
  local id, generation = parse_run(run)
  local plan = parse_plan(redis.call('HGET', keys.plan, id) or '')
  redis.call('HSET', keys.last, id, outcome)
  local left = (tonumber(redis.call('HGET', keys.open, id) or '0') or 0) - 1
  if left > 0 then
    redis.call('HSET', keys.open, id, int(left))
  else
    redis.call('HDEL', keys.open, id)
    local task = parse_task(redis.call('HGET', keys.tasks, id) or '')
    if not task or not plan then
      redis.call('HSET', keys.quarantine, id, (task and 'the plan' or 'the task') .. ' cannot be read')
    elseif is_exhausted(plan) then
      local iterations_left = redis.call('HGET', keys.remaining, id)
      remove_task(keys, id, now)
      lines[#lines + 1] = end_line(id, generation, iterations_left == '0' and 'iterations' or 'end', task)
    end
  end
end
