-- A task's column in `tasks`: a line of text for the scripts and for whoever looks, then the msgpack body:
-- "1 <generation> <version> <op> <created op> <queue> <policy> <path> <label>\n<body>".
-- `op` is the operation that saved it last, "=" when it is the one that created it.
-- An empty label is the path.
-- `policy` is "-" for the defaults, else "overlap,misfire,grace_ms,window_ms,max_catchup,jitter_ms,enabled,end_ms"; enabled
-- is 0 or 1, end_ms 0 where there is no end.
local function parse_task(record)
  local generation, version, op, created_op, queue, policy, path, label =
    string.match(record, '^1 (%d+) (%d+) (%S+) (%S+) (%S+) (%S+) (%S+) ([^\n]*)\n')
  if not generation then
    return nil
  end
  local task = {generation = generation, version = version, op = op == '=' and created_op or op, created_op = created_op,
                queue = queue, path = path, label = label ~= '' and label or path, overlap = 'allow', misfire = 'coalesce',
                grace = 60000, window = 86400000, max_catchup = 100, jitter = 0, enabled = true, end_ms = 0}
  if policy ~= '-' then
    local overlap, misfire, grace, window, max_catchup, jitter, enabled, end_ms =
      string.match(policy, '^(%l+),(%l+),(%d+),(%d+),(%d+),(%d+),([01]),(%d+)$')
    if not overlap then
      return nil
    end
    task.overlap, task.misfire, task.grace, task.window = overlap, misfire, tonumber(grace), tonumber(window)
    task.max_catchup, task.jitter = tonumber(max_catchup), tonumber(jitter)
    task.enabled, task.end_ms = enabled == '1', tonumber(end_ms)
  end
  return task
end

-- Where a task stands whose schedule is held (paused, or not enabled): at its end, so that it ends then, else at +inf.
local function held_until(task)
  return task.end_ms > 0 and int(task.end_ms) or '+inf'
end

-- Whether a key is the one of the task's queue: a caller that loaded the task before it moved names another.
local function is_of_queue(key, queue)
  return string.sub(key, -#queue - 1) == ':' .. queue
end

-- A run id is "<task id>:<generation>:<instant>"; a task id may hold colons.
local function parse_run(run)
  return string.match(run, '^(.+):(%d+):([^:]+)$')
end
