#!lua flags=allow-oom
-- Forgets dead runs.
-- KEYS dead hash
-- KEYS dead_times zset
-- ARGV runs… run ids, at most 100
-- Reply: buried count
-- @include clock
-- @include dead
local known = {}
for _, run in ipairs(runs) do
  if redis.call('HEXISTS', dead, run) == 1 then
    known[#known + 1] = run
  end
end
forget_dead(dead, dead_times, known)
return {'buried', #known}
