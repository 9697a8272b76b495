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
-- KEYS held hash
-- KEYS cancels hash
-- KEYS last hash
-- KEYS streak hash
-- KEYS paused hash
-- KEYS skips hash
-- KEYS backfills hash
-- KEYS labels zset
-- KEYS unroutable hash
-- KEYS quarantine hash
-- KEYS history stream
-- KEYS reports stream
-- KEYS progress hash
-- KEYS dead hash
-- KEYS dead_times zset
-- KEYS replies hash
-- KEYS reply_times zset
-- KEYS queue_keys… pairs of zsets: due:<queue>, waiting:<queue>
-- ARGV now_ms injected ms or empty
-- ARGV boot the dead one
-- ARGV queues names joined by commas, in the order of queue_keys
-- Reply: reaped now_ms taken left queue…: with the queues that are missing among the given ones, for tasks that were moved
-- Reply: alive now_ms | gone now_ms
-- @include clock
-- @include plan
-- @include task
-- @include runs
-- @include open
-- @include ledger
-- @include replies
-- @include queues
-- @include removal
-- @include held
-- @include dead
-- @include backfills
-- @include endings
local now = server_now(now_ms)
local keys = {tasks = tasks, plan = plan, open = open, remaining = remaining, waiting = waiting, held = held, cancels = cancels,
              last = last, streak = streak, paused = paused, skips = skips, backfills = backfills, labels = labels, unroutable = unroutable,
              quarantine = quarantine, replies = replies, reply_times = reply_times}
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
local by_name = queues_by_name(queues, queue_keys)
local name = string.match(rest, '(%S+)$')
local lines, taken, missing = {}, 0, {}

-- What a dead worker held. A record that cannot be read is kept in quarantine, and the run begins anew: its id is intact.
local function attempt_of(run)
  local text = redis.call('HGET', live, run)
  local attempt = parse_live(text)
  local id, _, instant = parse_run(run)
  if not attempt then
    redis.call('HSET', quarantine, id or run, 'what a dead worker held of run ' .. run .. ' could not be read: ' .. text)
    attempt = {number = 1, losses = 0, started = '0', nominal = int(tonumber(instant or '') or now), previous = '-'}
  end
  local task = parse_task(redis.call('HGET', tasks, id or '') or '')
  attempt.queue = task and task.queue or attempt.queue or next(by_name)
  attempt.redeliveries = task and task.redeliveries or math.huge
  return attempt
end

local function give_back(run, attempt)
  redis.call('HSET', waiting, run, format_waiting(attempt))
  -- One of those that died together again may be what kills their workers: it must not take the others with it for ever.
  local at = attempt.losses > 1 and now + 50 * (taken - 1) or now
  redis.call('ZADD', by_name[attempt.queue].waiting, at, run)
end

local function lose(run, attempt)
  keep_dead(dead, dead_times, run, 'lost', attempt, redis.call('HGET', tasks, (parse_run(run))) or '', now)
  close_run(keys, run, 'lost', table.concat({attempt.nominal, '0', '0', int(attempt.number)}, ' '),
            by_name[attempt.queue], now, lines)
  redis.call('XADD', reports, 'MAXLEN', '~', 1000, '*', 'run', run, 'attempt', int(attempt.number), 'outcome', 'lost',
             'error', 'its workers died ' .. int(attempt.losses) .. ' times', 'result', '')
end

local runs = redis.call('HKEYS', live)
table.sort(runs)
for _, run in ipairs(runs) do
  if taken == 100 then
    break
  end
  local attempt = attempt_of(run)
  if not by_name[attempt.queue] then
    missing[attempt.queue] = true
  else
    -- The first loss is free; a later one counts when the attempt is known to have begun.
    local is_counted = attempt.losses == 0 or attempt.started == '1'
    attempt.losses = attempt.losses + (is_counted and 1 or 0)
    redis.call('HDEL', live, run)
    redis.call('HDEL', progress, run)
    taken = taken + 1
    local is_lost, is_gone = attempt.losses > attempt.redeliveries, is_orphan(keys, run)
    local what = is_gone and 'cancelled' or is_lost and 'lost' or 'redelivered'
    lines[#lines + 1] = table.concat({'run', run, what, int(attempt.number), attempt.nominal,
                                      '0', '0', name, attempt.queue}, '\t')
    attempt.number = attempt.number + (is_counted and not is_lost and 1 or 0)
    if is_lost and not is_gone then
      lose(run, attempt)
    elseif not is_gone then
      give_back(run, attempt)
    end
  end
end
local left = #runs - taken
if left == 0 then
  redis.call('HDEL', workers, boot)
  redis.call('ZREM', leases, boot)
end
write_ledger(history, lines)
local reply = {'reaped', now, taken, left}
for queue in pairs(missing) do
  reply[#reply + 1] = queue
end
return reply
