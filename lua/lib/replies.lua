-- Replies of operations whose effect leaves no trace to recognise a repeat by. An operation id is "<server ms>-<random>";
-- one older than the window and without a stored reply is refused. Replies outlive a step of the clock by an hour and back:
-- those that the step made look old would be missing when the clock is right again, with their operations young.
local REPLY_WINDOW_MS = 600000
local REPLY_KEPT_MS = 4500000

local function is_expired(op, now)
  local made = tonumber(string.match(op, '^(%d+)-') or '0')
  return made < now - REPLY_WINDOW_MS or made > now + REPLY_WINDOW_MS
end

local function keep_reply(replies_key, reply_times_key, op, now, reply)
  local old = redis.call('ZRANGE', reply_times_key, '-inf', now - REPLY_KEPT_MS, 'BYSCORE', 'LIMIT', 0, 10)
  if #old > 0 then
    redis.call('HDEL', replies_key, unpack(old))
    redis.call('ZREM', reply_times_key, unpack(old))
  end
  redis.call('HSET', replies_key, op, reply)
  redis.call('ZADD', reply_times_key, now, op)
end
