#!lua flags=allow-oom
-- Takes a waiting run along to the queue its task was moved to.
-- KEYS tasks hash
-- KEYS waiting hash
-- KEYS from zset waiting:<old queue>
-- KEYS to zset waiting:<new queue>
-- ARGV run run id
-- Reply: moved | gone
-- @include clock
-- @include task
-- @include runs
local task = parse_task(redis.call('HGET', tasks, (parse_run(run))) or '')
local waits = parse_waiting(redis.call('HGET', waiting, run) or '')
local at = redis.call('ZSCORE', from, run)
if not task or not waits or not at or not is_of_queue(to, task.queue) then
  return {'gone'}
end
waits.queue = task.queue
redis.call('ZREM', from, run)
redis.call('ZADD', to, at, run)
redis.call('HSET', waiting, run, format_waiting(waits))
return {'moved'}
