-- `open` task id -> "<count> <mark>,<mark>…": how many runs of a task are open, and of at most a hundred the marks of their ids,
-- oldest first. The field is there only while there are any.
local MOST_MARKS = 100

local function parse_open(text)
  if not text then
    return {count = 0, marks = {}}
  end
  local count, list = string.match(text, '^(%d+) ([^ ]*)$')
  if not count then
    return nil
  end
  local marks = {}
  for mark in string.gmatch(list, '[^,]+') do
    marks[#marks + 1] = mark
  end
  return {count = tonumber(count), marks = marks}
end

local function format_open(open)
  return int(open.count) .. ' ' .. table.concat(open.marks, ',')
end

local function count_in(open, mark)
  open.count = open.count + 1
  if #open.marks < MOST_MARKS then
    open.marks[#open.marks + 1] = mark
  end
end

local function count_out(open, mark)
  open.count = math.max(0, open.count - 1)
  for i, known in ipairs(open.marks) do
    if known == mark then
      table.remove(open.marks, i)
      return
    end
  end
end

local function store_open(key, id, open)
  if open.count > 0 then
    redis.call('HSET', key, id, format_open(open))
  else
    redis.call('HDEL', key, id)
  end
end

-- Whether another run of the task has to wait, or is not to be.
local function is_full(task, open)
  return task.overlap ~= 'allow' and open.count >= task.running
end
