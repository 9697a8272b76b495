#!lua flags=allow-oom
-- Ends a task's backfill: no further run of it begins. Those that are open go on.
-- KEYS backfills hash
-- KEYS history stream
-- ARGV id task id
-- ARGV name the backfill's id
-- Reply: ended | gone
-- @include clock
-- @include plan
-- @include ledger
-- @include runs
-- @include open
-- @include backfills
local b = parse_backfill(redis.call('HGET', backfills, id))
if not b or b.name ~= name then
  return {'gone'}
end
if b.open > 0 then
  b.segments = {}
  redis.call('HSET', backfills, id, format_backfill(b))
else
  redis.call('HDEL', backfills, id)
  write_ledger(history, {table.concat({'backfill', id, b.generation, b.name, int(b.ended), int(b.failed), int(b.total)}, '\t')})
end
return {'ended'}
