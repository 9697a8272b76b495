-- `held` task id -> "<nominal>,<nominal>…": occurrences that wait until an open run of their task ends. None is a run yet; each
-- becomes one, and costs its iteration, when it is released.
local function parse_held(text)
  local nominals = {}
  for nominal in string.gmatch(text or '', '%d+') do
    nominals[#nominals + 1] = tonumber(nominal)
  end
  return nominals
end

local function store_held(key, id, nominals)
  if not nominals[1] then
    redis.call('HDEL', key, id)
    return
  end
  local parts = {}
  for i, nominal in ipairs(nominals) do
    parts[i] = int(nominal)
  end
  redis.call('HSET', key, id, table.concat(parts, ','))
end

-- Keeps an occurrence for later, as far as the task's policy lets it; returns the one that goes and why.
local function hold_back(nominals, task, nominal)
  if task.overlap == 'buffer_all' then
    if #nominals >= task.buffer then
      return nominal, 'limit'
    end
  elseif nominals[1] then
    if task.overlap == 'buffer_one' and task.keep == 'first' then
      return nominal, 'overlap'
    end
    local old = nominals[1]
    nominals[1] = nominal
    return old, 'overlap'
  end
  nominals[#nominals + 1] = nominal
end

-- Makes held-back occurrences wait to be claimed, as far as there is room. What is left when the iterations are used up goes.
-- `queue` holds the keys of the task's queue: due, waiting.
local function release_held(keys, id, task, plan, open, queue, now, lines)
  local text = redis.call('HGET', keys.held, id)
  if not text or not plan or task.enabled ~= 1 or redis.call('HEXISTS', keys.paused, id) == 1 then
    return
  end
  local nominals = parse_held(text)
  local left = tonumber(redis.call('HGET', keys.remaining, id) or '')
  while nominals[1] and left ~= 0 and not is_full(task, open) do
    local nominal = table.remove(nominals, 1)
    local run = id .. ':' .. plan.generation .. ':' .. int(nominal)
    redis.call('HSET', keys.waiting, run, format_waiting({number = 1, losses = 0, nominal = int(nominal),
               previous = plan.admitted and int(plan.admitted) or '-', queue = task.queue}))
    redis.call('ZADD', queue.waiting, now, run)
    count_in(open, int(nominal))
    plan.admitted = nominal
    if left then
      left = left - 1
      redis.call('HSET', keys.remaining, id, int(left))
    end
  end
  if left == 0 then
    if nominals[1] then
      lines[#lines + 1] = skip_line(id, plan.generation, 'limit', #nominals, nominals[1], nominals[#nominals])
      nominals = {}
    end
    plan.segments, plan.complete = {}, true
    redis.call('ZREM', queue.due, id)
  end
  store_held(keys.held, id, nominals)
  redis.call('HSET', keys.plan, id, format_plan(plan))
end

-- A task that ends drops what it held back.
local function drop_held(keys, id, plan, lines)
  local nominals = parse_held(redis.call('HGET', keys.held, id))
  if nominals[1] then
    lines[#lines + 1] = skip_line(id, plan.generation, 'overlap', #nominals, nominals[1], nominals[#nominals])
    redis.call('HDEL', keys.held, id)
  end
end
