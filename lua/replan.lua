-- Gives a task whose plan ran out its next one, and records the range it missed.
-- KEYS tasks hash
-- KEYS plan hash
-- KEYS open hash
-- KEYS paused hash
-- KEYS history stream
-- KEYS due zset due:<queue>
-- ARGV now_ms injected ms or empty
-- ARGV id task id
-- ARGV generation number
-- ARGV version schedule version
-- ARGV cursor ms, as the claim answered
-- ARGV segments the new plan
-- ARGV dropped… groups of 4: reason count(0 unknown) first_ms last_ms
-- Reply: planned now_ms | moved now_ms
-- @include clock
-- @include plan
-- @include task
-- @include ledger
-- @include pauses
local now = server_now(now_ms)
local column = parse_plan(redis.call('HGET', plan, id) or '')
local task = parse_task(redis.call('HGET', tasks, id) or '')
if not column or not task or column.generation ~= generation or column.version ~= version
   or int(column.cursor) ~= cursor or column.segments[1] or column.complete then
  return {'moved', now}
end
local ahead, complete = parse_segments(segments)
if not ahead then
  return {'moved', now}
end
local lines = {}
for i = 1, #dropped, 4 do
  lines[#lines + 1] = skip_line(id, generation, dropped[i], tonumber(dropped[i + 1]), tonumber(dropped[i + 2]),
                                tonumber(dropped[i + 3]))
  column.cursor = math.max(column.cursor, tonumber(dropped[i + 3]))
end
column.segments, column.complete = ahead, complete
redis.call('HSET', plan, id, format_plan(column))
local first = column.segments[1]
if is_exhausted(column) and redis.call('HEXISTS', open, id) == 1 then
  redis.call('ZREM', due, id)
elseif not is_exhausted(column) and (task.enabled ~= 1 or redis.call('HEXISTS', paused, id) == 1) then
  redis.call('ZADD', due, 'XX', looked_at(task, redis.call('HGET', paused, id)), id)
else
  redis.call('ZADD', due, 'XX', first and due_instant(id, first[1], task.jitter) or now, id)
end
write_ledger(history, lines)
return {'planned', now}
