-- A task's column in `tasks`: a line of text for the scripts and for whoever looks, then the msgpack body:
-- "1 <generation> <version> <op> <created op> <queue> <policy> <path> <label>\n<body>".
-- `op` is the operation that saved it last, "=" when it is the one that created it.
-- An empty label is the path.
-- `policy` is "-" for the defaults, else "name=value,…" of what differs from them. `end` is 0 where there is no end.
local POLICY = {overlap = 'allow', keep = 'first', running = 1, buffer = 100, misfire = 'coalesce', grace = 60000,
                window = 86400000, catchup = 100, jitter = 0, enabled = 1, ['end'] = 0, pause_after = 0, redeliveries = 3}
local POLICY_WORDS = {overlap = 'allow skip buffer_one buffer_all cancel_other', keep = 'first latest',
                      misfire = 'coalesce all skip'}

-- Returns nil for a name or a value this release does not know.
local function parse_policy(text, task)
  for part in string.gmatch(text ~= '-' and text or '', '[^,]+') do
    local name, value = string.match(part, '^([%l_]+)=([%w_]+)$')
    local words = POLICY_WORDS[name]
    if words then
      value = string.find(' ' .. words .. ' ', ' ' .. value .. ' ', 1, true) and value
    else
      value = POLICY[name] and tonumber(value)
    end
    if not value then
      return nil
    end
    task[name] = value
  end
  return setmetatable(task, {__index = POLICY})
end

local function parse_task(record)
  local generation, version, op, created_op, queue, policy, path, label =
    string.match(record, '^1 (%d+) (%d+) (%S+) (%S+) (%S+) (%S+) (%S+) ([^\n]*)\n')
  if not generation then
    return nil
  end
  return parse_policy(policy, {generation = generation, version = version, op = op == '=' and created_op or op,
                               created_op = created_op, queue = queue, path = path, label = label ~= '' and label or path})
end

-- Where a task stands whose schedule is held (paused, or not enabled): at its end, so that it ends then, else at +inf.
local function held_until(task)
  return task['end'] > 0 and int(task['end']) or '+inf'
end

-- Whether a key is the one of the task's queue: a caller that loaded the task before it moved names another.
local function is_of_queue(key, queue)
  return string.sub(key, -#queue - 1) == ':' .. queue
end

-- A run id is "<task id>:<generation>:<mark>"; the mark is the nominal instant, or t and b for manual and backfill runs. A
-- task id may hold colons.
local function parse_run(run)
  return string.match(run, '^(.+):(%d+):([^:]+)$')
end
