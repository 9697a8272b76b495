-- Offers a task that this worker cannot plan to the others, ever more rarely.
-- KEYS plan hash
-- KEYS unroutable hash
-- KEYS replies hash
-- KEYS reply_times zset
-- KEYS due zset due:<queue>
-- ARGV now_ms injected ms or empty
-- ARGV op operation id
-- ARGV id task id
-- ARGV column the task's plan, as the claim answered
-- ARGV path of its callable, - where it cannot be read
-- ARGV reason why it cannot be planned
-- Reply: postponed now_ms | moved now_ms | expired now_ms
-- @include clock
-- @include replies
-- @include park
local now = server_now(now_ms)
if redis.call('HEXISTS', replies, op) == 1 then
  return {'postponed', now}
end
if is_expired(op, now) then
  return {'expired', now}
end
if redis.call('HGET', plan, id) ~= column or not redis.call('ZSCORE', due, id) then
  return {'moved', now}
end
redis.call('ZADD', due, now + backoff_unroutable(unroutable, id, now, path, id, reason), id)
keep_reply(replies, reply_times, op, now, 'postponed')
return {'postponed', now}
