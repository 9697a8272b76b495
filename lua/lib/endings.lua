-- A run of a task that was deleted, even where another has its id now: it may end, and touches nothing.
local function is_orphan(keys, run)
  local id, generation = parse_run(run)
  local text = redis.call('HGET', keys.plan, id)
  return not text or string.match(text, '^(%d+) ') ~= generation
end

-- The end of a run: its task has one open run less, and a task that has ended leaves with its last one.
local function close_run(keys, run, outcome, now, lines)
  local id, generation = parse_run(run)
  local text = redis.call('HGET', keys.plan, id)
  local plan = text and parse_plan(text)
  if not plan or plan.generation ~= generation then
    return
  end
  redis.call('HSET', keys.last, id, outcome)
  if redis.call('HINCRBY', keys.open, id, -1) <= 0 then
    redis.call('HDEL', keys.open, id)
    if is_exhausted(plan) and parse_task(redis.call('HGET', keys.tasks, id) or '') then
      local left = redis.call('HGET', keys.remaining, id)
      local task = remove_task(keys, id, now)
      lines[#lines + 1] = end_line(id, generation, left == '0' and 'iterations' or 'end', task)
    end
  end
end
