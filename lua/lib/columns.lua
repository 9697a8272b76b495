-- What a claim reads of all its tasks at once, and writes back at its end: one HMGET and one HSET a column.
local COLUMNS = {'tasks', 'plan', 'open', 'remaining'}

local function load_columns(claim, found)
  claim.column, claim.plans, claim.opens = {}, {}, {}
  claim.write_plan, claim.write_open = {}, {}
  local ids = {}
  for i, c in ipairs(found) do
    c.id = c.is_run and (parse_run(c.member) or '') or c.member
    ids[i] = c.id
  end
  local names = {unpack(COLUMNS)}
  for _, sparse in ipairs({'paused', 'skips'}) do
    if redis.call('HLEN', claim.keys[sparse]) > 0 then
      names[#names + 1] = sparse
    else
      claim.column[sparse] = {}
    end
  end
  for _, name in ipairs(names) do
    local values = {}
    if ids[1] then
      for i, value in ipairs(redis.call('HMGET', claim.keys[name], unpack(ids))) do
        values[ids[i]] = value or nil
      end
    end
    claim.column[name] = values
  end
end

local function plan_of(claim, id)
  if not claim.plans[id] and claim.column.plan[id] then
    claim.plans[id] = parse_plan(claim.column.plan[id])
  end
  return claim.plans[id]
end

local function open_of(claim, id)
  if not claim.opens[id] then
    claim.opens[id] = parse_open(claim.column.open[id])
  end
  return claim.opens[id]
end

-- The path to report for a task this worker refuses, "-" where it is its record and not its callable; else nothing.
local function refused_path(claim, id, task)
  if claim.refused_records[id] and claim.refused_records[id] == redis.sha1hex(claim.column.tasks[id]) then
    return '-'
  end
  return claim.is_refused[task.path] and task.path
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

local function write_columns(claim)
  write_column(claim.keys.plan, claim.write_plan)
  write_column(claim.keys.open, claim.write_open)
end
