#!lua flags=allow-oom
-- Gives a worker process a boot id, never used before in this partition, and its first lease.
-- KEYS meta hash
-- KEYS workers hash
-- KEYS leases zset
-- KEYS replies hash
-- KEYS reply_times zset
-- ARGV now_ms injected ms or empty
-- ARGV op operation id
-- ARGV lease_ms ms
-- ARGV queues names joined by commas
-- ARGV name host and process, no spaces
-- Reply: ok boot now_ms | expired now_ms
-- @include clock
-- @include sequence
-- @include replies
local now = server_now(now_ms)
local known = redis.call('HGET', replies, op)
if known then
  return {'ok', known, now}
end
if is_expired(op, now) then
  return {'expired', now}
end
local boot = int(take_sequence(meta, now, 1))
redis.call('HSET', workers, boot, table.concat({'up', lease_ms, '0', int(now), queues, name}, ' '))
redis.call('ZADD', leases, now + tonumber(lease_ms), boot)
keep_reply(replies, reply_times, op, now, boot)
return {'ok', boot, now}
