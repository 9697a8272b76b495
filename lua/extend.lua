-- Appends to plans that run low.
-- KEYS plan hash
-- ARGV extensions… groups of 5: id generation version plan_end segments
-- Reply: (planned|moved)…
-- @include clock
-- @include plan
local reply = {}
for i = 1, #extensions, 5 do
  local id, generation, version, plan_end, text = unpack(extensions, i, i + 4)
  local column = parse_plan(redis.call('HGET', plan, id) or '')
  local last = column and last_instant(column.segments)
  if last and not column.complete and column.generation == generation and column.version == version
     and int(last) == plan_end then
    local segments, complete = parse_segments(text)
    for _, s in ipairs(segments) do
      column.segments[#column.segments + 1] = s
    end
    column.complete = complete
    redis.call('HSET', plan, id, format_plan(column))
    reply[#reply + 1] = 'planned'
  else
    reply[#reply + 1] = 'moved'
  end
end
return reply
