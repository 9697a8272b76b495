-- Leaves hints for idle workers, at most as many as are useful.
-- KEYS wake list
-- ARGV count number
-- Reply: ok length
local length = redis.call('LLEN', wake)
for _ = length + 1, tonumber(count) do
  length = redis.call('RPUSH', wake, '1')
end
return {'ok', length}
