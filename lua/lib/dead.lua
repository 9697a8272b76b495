-- Runs that nobody will try again: `dead` run id -> "<since> <outcome> <number> <nominal> <previous> <queue>\n<record>", with
-- `dead_times` for their age. The oldest go when there are too many, or they are too old.
local MOST_DEAD = 1000
local DEAD_KEPT_MS = 30 * 86400000

local function forget_dead(dead, dead_times, runs)
  if runs[1] then
    redis.call('HDEL', dead, unpack(runs))
    redis.call('ZREM', dead_times, unpack(runs))
  end
end

local function keep_dead(dead, dead_times, run, outcome, attempt, record, now)
  local row = table.concat({int(now), outcome, int(attempt.number), attempt.nominal, attempt.previous, attempt.queue}, ' ')
  redis.call('HSET', dead, run, row .. '\n' .. record)
  redis.call('ZADD', dead_times, now, run)
  forget_dead(dead, dead_times, redis.call('ZRANGE', dead_times, '-inf', now - DEAD_KEPT_MS, 'BYSCORE', 'LIMIT', 0, 10))
  local over = redis.call('ZCARD', dead_times) - MOST_DEAD
  if over > 0 then
    forget_dead(dead, dead_times, redis.call('ZRANGE', dead_times, 0, math.min(over, 10) - 1))
  end
end

local function parse_dead(text)
  local number, nominal, previous, queue = string.match(text or '', '^%d+ %l+ (%d+) (%d+) (%S+) (%S+)\n')
  if number then
    return {number = tonumber(number), nominal = nominal, previous = previous, queue = queue}
  end
end
