-- A run that waits for its first attempt, its retry or its redelivery, and whose time has come.
local function claim_run(claim, c, task)
  local keys, run_id = claim.keys, c.member
  if claim.closed[run_id] then
    return
  end
  local generation = select(2, parse_run(run_id))
  local plan = plan_of(claim, c.id)
  local text = redis.call('HGET', keys.waiting, run_id)
  local run = text and parse_waiting(text)
  local is_current = plan and plan.generation == generation
  if (claim.column.plan[c.id] and not plan) or (is_current and (not task or not run)) then
    redis.call('HSET', keys.quarantine, c.id, 'a waiting run, the task or its plan cannot be read')
    redis.call('ZADD', c.waiting_key, claim.now + 30000, run_id)
    return
  end
  local refused = is_current and refused_path(claim, c.id, task)
  if refused then
    local wait = backoff_unroutable(keys.unroutable, c.id, claim.now, refused, run_id)
    redis.call('ZADD', c.waiting_key, claim.now + wait, run_id)
    return
  end
  redis.call('ZREM', c.waiting_key, run_id)
  redis.call('HDEL', keys.waiting, run_id)
  if is_current then
    grant(claim, run_id, c, run)
  else
    claim.lines[#claim.lines + 1] = table.concat({'run', run_id, 'cancelled', '0', '0', '0', '0', '-', 'gone'}, '\t')
  end
end
