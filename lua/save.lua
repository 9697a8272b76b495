-- Creates or changes tasks: the definition, its label, its plan and its place in the schedule, all or nothing for each.
-- KEYS meta hash
-- KEYS tasks hash
-- KEYS plan hash
-- KEYS open hash
-- KEYS remaining hash
-- KEYS waiting hash
-- KEYS held hash
-- KEYS last hash
-- KEYS streak hash
-- KEYS paused hash
-- KEYS skips hash
-- KEYS backfills hash
-- KEYS labels zset
-- KEYS unroutable hash
-- KEYS quarantine hash
-- KEYS history stream
-- KEYS replies hash
-- KEYS reply_times zset
-- KEYS live hash of the boot whose run saves, or any
-- KEYS queue_keys… three zsets a task: due:<new queue>, due:<old queue>, waiting:<new queue>
-- ARGV now_ms injected ms or empty
-- ARGV saves… groups of 16: op id generation version queue policy path label body plan planned_from replan beside
--   iterations run token
--   generation and version: as loaded, empty to create; iterations: "<total>" on creation, "<old>:<new>" or empty later
--   replan: 1 take the plan, 2 take it if the stored one is exhausted, 0 keep the stored one
--   beside: an instant beside the schedule: empty for none, now, or ms; with a leading ? only in the place of one that is
--   undecided; keep: the one that is undecided
-- Reply: now_ms (reply)… saved generation version is_head | exists | gone | conflict | stale | expired | replan
-- @include clock
-- @include sequence
-- @include plan
-- @include task
-- @include runs
-- @include open
-- @include ledger
-- @include missed
-- @include replies
-- @include removal
-- @include held
-- @include pauses
-- @include adopt
local now = server_now(now_ms)
local keys = {tasks = tasks, plan = plan, open = open, remaining = remaining, waiting = waiting, held = held,
              last = last, streak = streak, paused = paused, skips = skips, backfills = backfills, labels = labels, unroutable = unroutable,
              quarantine = quarantine, replies = replies, reply_times = reply_times}
local lines = {}

local function refusal(s, task)
  if s.generation == '' then
    if task and task.created_op == s.op then
      return {'saved', task.generation, task.version, 0}
    end
    if task or redis.call('HEXISTS', tasks, s.id) == 1 then
      return {'exists'}
    end
    local generation, version = string.match(redis.call('HGET', replies, s.op) or '', '^saved (%d+) (%d+)$')
    if generation then
      return {'saved', generation, version, 0}
    end
    return is_expired(s.op, now) and {'expired'} or nil
  end
  if not task or task.generation ~= s.generation then
    local generation, version = string.match(redis.call('HGET', replies, s.op) or '', '^saved (%d+) (%d+)$')
    return generation == s.generation and {'saved', generation, version, 0} or {'gone'}
  end
  if task.op == s.op then
    return {'saved', task.generation, task.version, 0}
  end
  if s.run ~= '' then
    local attempt = parse_live(redis.call('HGET', live, s.run) or '')
    if not attempt or attempt.token ~= s.token then
      return {'stale'}
    end
  end
  return task.version ~= s.version and {'conflict'} or nil
end

local function why_undecided(s, task)
  if redis.call('HEXISTS', paused, s.id) == 1 then
    return 'paused'
  end
  return task.enabled == 1 and 'edited' or 'disabled'
end

-- Later than everything decided, or its run would have the id of one there has been.
local function beside_of(s, undecided, cursor)
  local is_conditional, wish = string.match(s.beside, '^(%??)(.*)$')
  if wish == 'keep' or (is_conditional == '?' and not undecided) then
    return undecided
  end
  local at = wish == 'now' and now or tonumber(wish)
  return at and math.max(at, cursor + 1)
end

local function new_plan(s, old, task)
  local after = math.max(now, old and old.cursor or 0)
  local segments, complete = adopt_plan(s.plan, tonumber(s.planned_from), after)
  if not segments then
    return nil
  end
  local beside = beside_of(s, old and old.beside, old and old.cursor or 0)
  if old then
    if old.beside and beside then
      drop(old.segments, 1)
    end
    old.beside = nil
    lines[#lines + 1] = missed_line(s.id, old, why_undecided(s, task), now)
  end
  if beside then
    drop(segments, count_until(segments, beside))
    table.insert(segments, 1, {beside, 0, 1})
  end
  return {cursor = after, admitted = old and old.admitted, segments = segments,
          complete = complete, beside = beside}
end

local function set_iterations(s, column)
  local old_total, new_total = string.match(s.iterations, '^(%d+):(%d+)$')
  local total = tonumber(new_total or s.iterations)
  local left = tonumber(redis.call('HGET', remaining, s.id) or '')
  if total == 0 then
    left = nil
    redis.call('HDEL', remaining, s.id)
  elseif total then
    left = math.max(0, (left or tonumber(old_total or '0')) + total - tonumber(old_total or '0'))
    redis.call('HSET', remaining, s.id, int(left))
  end
  if left == 0 then
    column.segments, column.complete = {}, true
  end
  return left
end

local function place(s, column, task, left)
  local first = column.segments[1]
  local pause = redis.call('HGET', paused, s.id)
  if s.old_due_key ~= s.due_key then
    redis.call('ZREM', s.old_due_key, s.id)
  end
  if is_exhausted(column) then
    redis.call('ZREM', s.due_key, s.id)
    if redis.call('HEXISTS', open, s.id) == 0 and redis.call('HEXISTS', held, s.id) == 0
       and redis.call('HEXISTS', backfills, s.id) == 0 then
      local removed = remove_task(keys, s.id, now)
      lines[#lines + 1] = end_line(s.id, column.generation, left == 0 and 'iterations' or 'end', removed)
    end
  elseif task.enabled ~= 1 or pause then
    redis.call('ZADD', s.due_key, looked_at(task, pause), s.id)
  elseif first then
    redis.call('ZADD', s.due_key, due_instant(s.id, first[1], task.jitter), s.id)
  else
    redis.call('ZADD', s.due_key, now, s.id)
  end
end

local function save(s)
  local record = redis.call('HGET', tasks, s.id)
  local task = record and parse_task(record)
  local refused = refusal(s, task)
  if refused then
    return refused
  end
  local old = task and parse_plan(redis.call('HGET', plan, s.id) or '')
  local column = old
  if s.replan == '1' or not old or (s.replan == '2' and is_exhausted(old)) then
    column = new_plan(s, old, task)
    if not column then
      return {'replan'}
    end
  end
  local sequence = int(take_sequence(meta, now, 1))
  local generation = task and task.generation or sequence
  if column ~= old then
    column.generation, column.version = generation, sequence
  end
  local header = table.concat({'1', generation, sequence, task and s.op or '=', task and task.created_op or s.op, s.queue,
                               s.policy, s.path, s.label ~= s.path and s.label or ''}, ' ')
  redis.call('HSET', tasks, s.id, header .. '\n' .. s.body)
  if task and task.label ~= s.label then
    redis.call('ZREM', labels, task.label .. '\0' .. s.id)
  end
  redis.call('ZADD', labels, 0, s.label .. '\0' .. s.id)
  redis.call('HDEL', unroutable, s.id)
  redis.call('HDEL', quarantine, s.id)
  local left = set_iterations(s, column)
  redis.call('HSET', plan, s.id, format_plan(column))
  local saved = parse_task(header .. '\n')
  local runs_open = parse_open(redis.call('HGET', open, s.id)) or {count = 0, marks = {}}
  -- The edit may have made room for what was held back.
  release_held(keys, s.id, saved, column, runs_open, {due = s.due_key, waiting = s.waiting_queue}, now, lines)
  if runs_open.count > 0 then
    store_open(open, s.id, runs_open)
  end
  place(s, column, saved, left)
  local head = redis.call('ZRANGE', s.due_key, 0, 0)
  return {'saved', generation, sequence, head[1] == s.id and 1 or 0}
end

local names = {'op', 'id', 'generation', 'version', 'queue', 'policy', 'path', 'label', 'body', 'plan', 'planned_from',
               'replan', 'beside', 'iterations', 'run', 'token'}
local reply = {now}
for i = 1, #saves / #names do
  local s = {due_key = queue_keys[3 * i - 2], old_due_key = queue_keys[3 * i - 1], waiting_queue = queue_keys[3 * i]}
  for j, name in ipairs(names) do
    s[name] = saves[(i - 1) * #names + j]
  end
  reply[#reply + 1] = save(s)
end
write_ledger(history, lines)
return reply
