-- Attempts a claim hands out. Tokens are taken for all of them at once, at its end.
local function grant(claim, run, candidate, fields)
  fields.queue, fields.started, fields.seq = claim.queue_names[candidate.queue], '0', claim.seq
  claim.grants[#claim.grants + 1] = {run = run, live = fields, record = claim.column.tasks[candidate.id]}
  if claim.any_unroutable then
    redis.call('HDEL', claim.keys.unroutable, candidate.id)
  end
end

local function attempt_reply(run, live_run, record)
  return {run, live_run.token, live_run.number, live_run.losses, live_run.nominal, live_run.previous, live_run.queue, record}
end

local function store_grants(claim, meta, live)
  local attempts, fields = {}, {}
  if claim.grants[1] then
    local token = take_sequence(meta, claim.now, #claim.grants)
    for i, g in ipairs(claim.grants) do
      g.live.token = int(token + i - 1)
      fields[#fields + 1] = g.run
      fields[#fields + 1] = format_live(g.live)
      attempts[i] = attempt_reply(g.run, g.live, g.record)
    end
    redis.call('HSET', live, unpack(fields))
  end
  return attempts
end

-- What this boot was granted by its last claim and still holds.
local function repeated_grants(claim, live)
  local attempts = {}
  local held = redis.call('HGETALL', live)
  for i = 1, #held, 2 do
    local run = parse_live(held[i + 1])
    if run and run.seq == claim.seq then
      -- A run of a task that was deleted since gets no record, not that of another task with its id.
      local record = not is_orphan(claim.keys, held[i]) and redis.call('HGET', claim.keys.tasks, (parse_run(held[i])))
      attempts[#attempts + 1] = attempt_reply(held[i], run, record or '')
    end
  end
  return attempts
end
