-- A task's column in `plan`: "<generation> <schedule version> <cursor> <admitted> <segments>". Segments are
-- "first:step:count,…", "*" for an endless count, a leading "!" when the first of them is an instant beside the schedule
-- (a one-off, or a first run at once), and a last "." when the schedule has no instant after them.
-- `admitted` is the nominal instant of the last admitted run, "-" for none, "=" when it equals the cursor.
-- Returns nil for any other text.
local function parse_segments(text)
  local is_beside, body, last = string.match(text, '^(!?)(.-)(%.?)$')
  local segments, at = {}, 1
  body = body ~= '' and body .. ',' or body
  while at <= #body do
    local first, step, count, following = string.match(body, '^(%d+):(%d+):(%d+),()', at)
    if not first then
      first, step, following = string.match(body, '^(%d+):(%d+):%*,()', at)
      if not first then
        return nil
      end
    end
    segments[#segments + 1] = {tonumber(first), tonumber(step), count and tonumber(count) or math.huge}
    at = following
  end
  return segments, last == '.', is_beside == '!' and segments[1] and segments[1][1] or nil
end

local function format_segments(segments, complete)
  local parts = {}
  for i, s in ipairs(segments) do
    parts[i] = int(s[1]) .. ':' .. int(s[2]) .. ':' .. (s[3] == math.huge and '*' or int(s[3]))
  end
  return table.concat(parts, ',') .. (complete and '.' or '')
end

local function parse_plan(text)
  local generation, version, cursor, admitted, rest = string.match(text, '^(%d+) (%d+) (%d+) (%S+) (%S*)$')
  if not generation then
    return nil
  end
  local segments, complete, beside = parse_segments(rest)
  if not segments then
    return nil
  end
  if admitted == '=' then
    admitted = cursor
  end
  return {generation = generation, version = version, cursor = tonumber(cursor),
          admitted = tonumber(admitted), segments = segments, complete = complete, beside = beside}
end

local function format_plan(plan)
  local admitted = '-'
  if plan.admitted then
    admitted = plan.admitted == plan.cursor and '=' or int(plan.admitted)
  end
  local first = plan.segments[1]
  return table.concat({plan.generation, plan.version, int(plan.cursor), admitted,
                       (first and first[1] == plan.beside and '!' or '') .. format_segments(plan.segments, plan.complete)},
                      ' ')
end

-- How many instants lie at or before `limit`.
local function count_until(segments, limit)
  local total = 0
  for _, s in ipairs(segments) do
    if s[1] > limit then
      break
    end
    total = total + (s[2] == 0 and 1 or math.min(s[3], math.floor((limit - s[1]) / s[2]) + 1))
  end
  return total
end

-- Removes the first `count` instants; returns the first and the last of them.
local function drop(segments, count)
  local first, last = segments[1] and segments[1][1], nil
  while count > 0 and segments[1] do
    local s = segments[1]
    local n = math.min(count, s[3])
    last = s[1] + s[2] * (n - 1)
    count = count - n
    if n == s[3] then
      table.remove(segments, 1)
    else
      s[1] = s[1] + s[2] * n
      s[3] = s[3] - n
    end
  end
  return first, last
end

local function last_instant(segments)
  local s = segments[#segments]
  return s and s[1] + s[2] * (s[3] - 1)
end

-- An exhausted plan will never have another instant: its task ends with its last open run.
local function is_exhausted(plan)
  return plan.complete and not plan.segments[1]
end

-- The instant an occurrence is due: its nominal instant and its share of the task's jitter.
local function due_instant(id, nominal, jitter)
  if jitter == 0 then
    return nominal
  end
  return nominal + tonumber(string.sub(redis.sha1hex(id .. ':' .. int(nominal)), 1, 8), 16) % jitter
end
