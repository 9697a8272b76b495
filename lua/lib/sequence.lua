-- Numbers that only rise: generations, versions, boot ids and tokens. Microseconds of the server's clock, or one more than
-- the last where that is larger, so that a counter rolled back by a failover does not repeat itself.
local function take_sequence(meta_key, now, count)
  local last = tonumber(redis.call('HGET', meta_key, 'sequence') or '0') or 0
  local first = math.max(last + 1, now * 1000)
  redis.call('HSET', meta_key, 'sequence', int(first + count - 1))
  return first
end
