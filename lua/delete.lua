#!lua flags=allow-oom
-- Deletes a task. Its open runs end by themselves and touch nothing of a later task with the same id.
-- KEYS tasks hash
-- KEYS plan hash
-- KEYS open hash
-- KEYS remaining hash
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
-- KEYS due zset due:<queue>
-- ARGV now_ms injected ms or empty
-- ARGV op operation id
-- ARGV id task id
-- ARGV generation as loaded
-- Reply: deleted now_ms | gone now_ms | expired now_ms | moved now_ms (to another queue: load it again)
-- @include clock
-- @include task
-- @include ledger
-- @include replies
-- @include removal
local now = server_now(now_ms)
local keys = {tasks = tasks, plan = plan, open = open, remaining = remaining, held = held,
              last = last, streak = streak, paused = paused, skips = skips, backfills = backfills, labels = labels, unroutable = unroutable,
              quarantine = quarantine, replies = replies, reply_times = reply_times}
if redis.call('HEXISTS', replies, op) == 1 then
  return {'deleted', now}
end
if is_expired(op, now) then
  return {'expired', now}
end
local task = parse_task(redis.call('HGET', tasks, id) or '')
if not task or task.generation ~= generation then
  return {'gone', now}
end
if not is_of_queue(due, task.queue) then
  return {'moved', now}
end
redis.call('ZREM', due, id)
remove_task(keys, id, now)
keep_reply(replies, reply_times, op, now, 'deleted')
write_ledger(history, {end_line(id, generation, 'deleted', task)})
return {'deleted', now}
