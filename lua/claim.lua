-- Decides due occurrences and hands the admitted ones to a worker as attempts.
-- KEYS meta hash
-- KEYS workers hash
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
-- KEYS replies hash
-- KEYS reply_times zset
-- KEYS live hash of the boot
-- KEYS queue_keys… pairs of zsets: due:<queue>, waiting:<queue>
-- ARGV now_ms injected ms or empty
-- ARGV boot boot id
-- ARGV seq number, the last one or one more
-- ARGV slots number of attempts wanted, 1 to 100
-- ARGV queues names joined by commas, in the order of queue_keys
-- ARGV channel where workers hear of runs that are to end
-- ARGV refused_paths… dotted paths this worker cannot or may not call; "<id> <SHA1>": a record it does not act on
-- Reply: ok now_ms next_due_ms(-1 none) backlog(0|1) watch(0|1|2) attempts replans lows cancels
--   attempt: run token number losses nominal previous queue record; replan and low: id plan record queue; cancel: run
-- Reply: refused now_ms | out-of-turn now_ms
-- @include clock
-- @include sequence
-- @include plan
-- @include task
-- @include runs
-- @include open
-- @include ledger
-- @include replies
-- @include removal
-- @include held
-- @include pauses
-- @include cancels
-- @include backfills
-- @include endings
-- @include park
-- @include missed
-- @include misfire
-- @include candidates
-- @include watch
-- @include maintenance
-- @include columns
-- @include grant
-- @include claim_run
-- @include claim_task
local now = server_now(now_ms)
local keys = {tasks = tasks, plan = plan, open = open, remaining = remaining, waiting = waiting, held = held, cancels = cancels,
              last = last, streak = streak, paused = paused, skips = skips, backfills = backfills, labels = labels, unroutable = unroutable,
              quarantine = quarantine, replies = replies, reply_times = reply_times}
local lease, last_seq, rest = string.match(redis.call('HGET', workers, boot) or '', '^up (%d+) (%d+) (.*)$')
if not lease then
  return {'refused', now}
end
local claim = {now = now, keys = keys, seq = seq, channel = channel, queue_names = {}, is_refused = {}, refused_records = {}, closed = {},
               grants = {}, lines = {}, replans = {}, lows = {}, any_unroutable = redis.call('HLEN', unroutable) > 0}
if seq == last_seq then
  return {'ok', now, -1, 1, 0, repeated_grants(claim, live), {}, {}, cancels_of(cancels, live)}
end
if tonumber(seq) ~= tonumber(last_seq) + 1 then
  return {'out-of-turn', now}
end
for _, refused in ipairs(refused_paths) do
  local id, sha1 = string.match(refused, '^(.+) (%x+)$')
  if id then
    claim.refused_records[id] = sha1
  else
    claim.is_refused[refused] = true
  end
end
for name in string.gmatch(queues, '[^,]+') do
  claim.queue_names[#claim.queue_names + 1] = name
end
local wanted = tonumber(slots)
if claim.any_unroutable then
  hasten_unroutable(unroutable, queue_keys, claim.is_refused, now)
end
local window_end = maintenance_end(meta, now)
local found = window_end and {} or due_candidates(queue_keys, now, math.min(100, wanted + 16))
load_columns(claim, found)
for _, c in ipairs(found) do
  if #claim.grants >= wanted then
    break
  end
  local record = claim.column.tasks[c.id]
  local task = record and parse_task(record)
  if c.is_run then
    claim_run(claim, c, task)
  else
    claim_task(claim, c, task)
  end
end
local attempts = store_grants(claim, meta, live)
write_columns(claim)
redis.call('HSET', workers, boot, table.concat({'up', lease, seq, rest}, ' '))
write_ledger(history, claim.lines)
local soonest = math.max(next_due(queue_keys), window_end or 0)
local backlog = soonest <= now and 1 or 0
local watching = keep_watch(meta, boot, now, #claim.grants < wanted and backlog == 0, soonest)
return {'ok', now, soonest == math.huge and -1 or soonest - now, backlog, watching, attempts, claim.replans, claim.lows,
        cancels_of(cancels, live)}
