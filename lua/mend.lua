#!lua flags=allow-oom
-- Mends what a look at the whole partition found broken, if it still is.
-- KEYS tasks hash
-- KEYS plan hash
-- KEYS open hash
-- KEYS waiting hash
-- KEYS labels zset
-- KEYS quarantine hash
-- KEYS due zset due:<queue>
-- KEYS waiting_queue zset waiting:<queue>
-- KEYS columns… hashes of facts about tasks
-- ARGV now_ms injected ms or empty
-- ARGV what what is broken: see below
-- ARGV id task or run id
-- ARGV old what was found
-- ARGV new what is to be there
-- Reply: mended | changed
-- @include clock
-- @include runs
local now = server_now(now_ms)

local mend = {}

-- A fact about a task that is gone. A plan is kept in quarantine: it may be all that is left of a task.
function mend.leftover()
  if redis.call('HEXISTS', tasks, id) == 1 then
    return false
  end
  local text = redis.call('HGET', plan, id)
  if text then
    redis.call('HDEL', plan, id)
    redis.call('HSET', quarantine, id, 'a plan without a task: ' .. text)
  end
  for _, column in ipairs(columns) do
    redis.call('HDEL', column, id)
  end
  return true
end

function mend.unscheduled()
  return redis.call('HEXISTS', tasks, id) == 0 and redis.call('ZREM', due, id) == 1
end

function mend.label()
  if redis.call('HEXISTS', tasks, id) == 1 then
    return redis.call('ZADD', labels, 'NX', 0, new) == 1
  end
  return redis.call('ZREM', labels, old) == 1
end

function mend.open()
  if (redis.call('HGET', open, id) or '') ~= old then
    return false
  end
  if new == '' then
    redis.call('HDEL', open, id)
  else
    redis.call('HSET', open, id, new)
  end
  return true
end

-- A waiting run has fields and a place, or neither.
function mend.waiting()
  local text, at = redis.call('HGET', waiting, id), redis.call('ZSCORE', waiting_queue, id)
  if (text and at) or (not text and not at) then
    return false
  end
  if text then
    redis.call('ZADD', waiting_queue, now, id)
  elseif new == '' then
    redis.call('ZREM', waiting_queue, id)
  else
    redis.call('HSET', waiting, id, new)
  end
  return true
end

function mend.quarantine()
  return redis.call('HGET', quarantine, id) == old and redis.call('HDEL', quarantine, id) == 1
end

return {mend[what]() and 'mended' or 'changed'}
