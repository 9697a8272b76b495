-- `backfills` task id -> "<backfill> <generation> <max_running> <open> <ended> <failed> <total> <last> <segments>": past instants that
-- are run again, a few at a time. The end of one run makes the next one wait, in the same call. `last` is the instant before the
-- next one, "-" at the start. A run of it has the mark b<backfill>-<instant>.
local function parse_backfill(text)
  local name, generation, max_running, open, ended, failed, total, last, rest =
    string.match(text or '', '^(%S+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%S+) (%S*)$')
  local segments = rest and parse_segments(rest)
  if segments then
    return {name = name, generation = generation, max_running = tonumber(max_running), open = tonumber(open),
            ended = tonumber(ended), failed = tonumber(failed), total = tonumber(total), last = last, segments = segments}
  end
end

local function format_backfill(b)
  return table.concat({b.name, b.generation, int(b.max_running), int(b.open), int(b.ended), int(b.failed), int(b.total), b.last,
                       format_segments(b.segments, false)}, ' ')
end

-- Makes further runs wait, as far as the backfill and the task have room; drops a backfill that is done.
local function advance_backfill(keys, id, b, task, open, waiting_queue, now, lines)
  while b.segments[1] and b.open < b.max_running and not is_full(task, open) do
    local nominal = int(drop(b.segments, 1))
    local mark = 'b' .. b.name .. '-' .. nominal
    local run = id .. ':' .. b.generation .. ':' .. mark
    redis.call('HSET', keys.waiting, run, format_waiting({number = 1, losses = 0, nominal = nominal, previous = b.last,
               queue = task.queue}))
    redis.call('ZADD', waiting_queue, now, run)
    count_in(open, mark)
    b.open, b.last = b.open + 1, nominal
  end
  if b.segments[1] or b.open > 0 then
    redis.call('HSET', keys.backfills, id, format_backfill(b))
  else
    redis.call('HDEL', keys.backfills, id)
    lines[#lines + 1] = table.concat({'backfill', id, b.generation, b.name, int(b.ended), int(b.failed), int(b.total)}, '\t')
  end
end

-- A run of the backfill ended, or another of its task.
local function backfill_after(keys, id, mark, outcome, task, open, waiting_queue, now, lines)
  local b = parse_backfill(redis.call('HGET', keys.backfills, id))
  if not b or not task or not waiting_queue then
    return
  end
  if string.sub(mark, 1, #b.name + 2) == 'b' .. b.name .. '-' then
    b.open, b.ended = math.max(0, b.open - 1), b.ended + 1
    b.failed = b.failed + (outcome == 'ok' and 0 or 1)
  end
  advance_backfill(keys, id, b, task, open, waiting_queue, now, lines)
end
