#!lua flags=allow-oom
-- Prolongs a worker's lease, watches the server's clock for jumps, and names boots whose lease ran out.
-- KEYS meta hash
-- KEYS workers hash
-- KEYS leases zset
-- KEYS cancels hash
-- KEYS history stream
-- KEYS reports stream
-- KEYS live hash of the boot
-- ARGV now_ms injected ms or empty
-- ARGV boot boot id
-- Reply: ok now_ms cancels (boot queues name)… | refused now_ms; cancel: run
-- @include clock
-- @include cancels
local now = server_now(now_ms)
local record = redis.call('HGET', workers, boot)
local lease = record and tonumber(string.match(record, '^up (%d+) '))
if not lease then
  return {'refused', now}
end
local clock, shortest, longest = unpack(redis.call('HMGET', meta, 'clock', 'shortest_lease', 'longest_lease'))
local seen = tonumber(clock or '') or now
shortest, longest = math.min(lease, tonumber(shortest or '') or lease), math.max(lease, tonumber(longest or '') or 0)
if now < seen - 1000 or now > seen + shortest then
  redis.call('HSET', meta, 'quiet_until', int(now + longest))
  -- Whoever had the shortest lease may have left, and then such gaps are no jumps.
  shortest = lease
end
redis.call('HSET', meta, 'clock', int(now), 'shortest_lease', int(shortest), 'longest_lease', int(longest))
-- After a step back, deadlines lie too far ahead: a dead worker must not keep its runs for as long as the step was.
local ahead = redis.call('ZRANGE', leases, now + 2 * lease, '+inf', 'BYSCORE', 'LIMIT', 0, 100)
for _, other in ipairs(ahead) do
  local theirs = tonumber(string.match(redis.call('HGET', workers, other) or '', '^%l+ (%d+) ') or int(lease))
  redis.call('ZADD', leases, 'LT', now + theirs, other)
end
redis.call('ZADD', leases, now + lease, boot)
-- What is written bounds the streams' lengths, this their age. Their entries are numbered by the server's clock.
if now_ms == '' then
  for _, stream in ipairs({history, reports}) do
    redis.call('XTRIM', stream, 'MINID', '~', int(now - 30 * 86400000), 'LIMIT', 1000)
  end
end
local reply = {'ok', now, cancels_of(cancels, live)}
if now >= tonumber(redis.call('HGET', meta, 'quiet_until') or '0') then
  for _, other in ipairs(redis.call('ZRANGE', leases, '-inf', now, 'BYSCORE', 'LIMIT', 0, 10)) do
    local theirs = redis.call('HGET', workers, other) or ''
    local queues, name = string.match(theirs, '^%l+ %d+ %d+ %d+ (%S+) (%S+)$')
    reply[#reply + 1] = {other, queues or '', name or ''}
  end
end
return reply
