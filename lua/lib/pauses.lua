-- `paused` task id -> since, until ("-" for none), by, reason; tab-separated.
local function pause_end(row)
  return tonumber(string.match(row, '^%d+\t(%d+)\t') or '')
end

-- When a task whose schedule is held has to be looked at: when its pause or the task itself ends, else never.
local function looked_at(task, pause)
  local until_ms = pause and task.enabled == 1 and pause_end(pause)
  if until_ms and task['end'] > 0 then
    return int(math.min(until_ms, task['end']))
  end
  return until_ms and int(until_ms) or held_until(task)
end
