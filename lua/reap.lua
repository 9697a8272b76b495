#!lua flags=allow-oom
-- Takes back the attempts of a worker whose lease ran out: first its boot is dead for good, then its attempts go in batches.
-- KEYS meta hash
-- KEYS workers hash
-- KEYS leases zset
-- KEYS live hash of the dead boot
-- KEYS tasks hash
-- KEYS plan hash
-- KEYS open hash
-- KEYS remaining hash
-- KEYS waiting hash
-- KEYS last hash
-- KEYS paused hash
-- KEYS labels zset
-- KEYS unroutable hash
-- KEYS history stream
-- KEYS failures stream
-- KEYS replies hash
-- KEYS reply_times zset
-- KEYS waiting_queues… zsets waiting:<queue>
-- ARGV now_ms injected ms or empty
-- ARGV boot the dead one
-- ARGV max_losses how often a run is redelivered
-- ARGV queues names joined by commas, in the order of waiting_queues
-- Reply: reaped now_ms taken left | alive now_ms | gone now_ms
-- @include clock
-- @include plan
-- @include task
-- @include runs
-- @include ledger
-- @include replies
-- @include removal
-- @include endings
local now = server_now(now_ms)
local keys = {tasks = tasks, plan = plan, open = open, remaining = remaining, labels = labels, last = last, paused = paused,
              unroutable = unroutable, replies = replies, reply_times = reply_times}
local record = redis.call('HGET', workers, boot)
if not record then
  redis.call('ZREM', leases, boot)
  return {'gone', now}
end
local deadline = tonumber(redis.call('ZSCORE', leases, boot) or '0')
local quiet_until = tonumber(redis.call('HGET', meta, 'quiet_until') or '0')
local state, rest = string.match(record, '^(%l+) (.*)$')
if state == 'up' and (deadline > now or now < quiet_until) then
  return {'alive', now}
end
if state == 'up' then
  redis.call('HSET', workers, boot, 'dead ' .. rest)
end
local queue_keys = {}
local index = 0
for name in string.gmatch(queues, '[^,]+') do
  index = index + 1
  queue_keys[name] = waiting_queues[index]
end
local name = string.match(rest, '(%S+)$')
local lines, taken = {}, 0
local runs = redis.call('HKEYS', live)
table.sort(runs)
for _, run in ipairs(runs) do
  if taken == 100 then
    break
  end
  local attempt = parse_live(redis.call('HGET', live, run))
  local queue_key = attempt and queue_keys[attempt.queue]
  if queue_key then
    -- The first loss is free; a later one counts when the attempt is known to have begun.
    if attempt.losses == 0 or attempt.started == '1' then
      attempt.losses = attempt.losses + 1
    end
    redis.call('HDEL', live, run)
    taken = taken + 1
    local is_lost, is_gone = attempt.losses > tonumber(max_losses), is_orphan(keys, run)
    local what = is_gone and 'cancelled' or is_lost and 'lost' or 'redelivered'
    lines[#lines + 1] = table.concat({'run', run, what, int(attempt.number), attempt.nominal,
                                      '0', '0', name, attempt.queue}, '\t')
    if is_lost and not is_gone then
      close_run(keys, run, table.concat({'lost', attempt.nominal, '0', '0', int(attempt.number)}, ' '), now, lines)
      redis.call('XADD', failures, 'MAXLEN', '~', 1000, '*', 'run', run, 'attempt', int(attempt.number), 'outcome', 'lost',
                 'error', 'its workers died ' .. int(attempt.losses) .. ' times')
    elseif not is_gone then
      attempt.number = attempt.number + 1
      redis.call('HSET', waiting, run, format_waiting(attempt))
      redis.call('ZADD', queue_key, now, run)
    end
  end
end
local left = #runs - taken
if left == 0 then
  redis.call('HDEL', workers, boot)
  redis.call('ZREM', leases, boot)
end
write_ledger(history, lines)
return {'reaped', now, taken, left}
