#!lua flags=allow-oom
-- Forgets what is older than an instant: ledger, reports and dead runs, a batch a call.
-- KEYS history stream
-- KEYS reports stream
-- KEYS dead hash
-- KEYS dead_times zset
-- ARGV before_ms ms
-- Reply: purged entries dead left(0|1)
-- @include clock
-- @include dead
local entries = 0
for _, stream in ipairs({history, reports}) do
  entries = entries + redis.call('XTRIM', stream, 'MINID', '=', before_ms)
end
local old = redis.call('ZRANGE', dead_times, '-inf', '(' .. before_ms, 'BYSCORE', 'LIMIT', 0, 100)
forget_dead(dead, dead_times, old)
return {'purged', entries, #old, #old == 100 and 1 or 0}
