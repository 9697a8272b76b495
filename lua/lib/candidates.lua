-- The oldest due elements of some queues, waiting runs and tasks alike, at most `limit`. `queue_keys` holds a pair of
-- keys a queue: due, waiting.
local function due_candidates(queue_keys, now, limit)
  local found = {}
  for q = 1, #queue_keys, 2 do
    for offset = 0, 1 do
      local entries = redis.call('ZRANGE', queue_keys[q + offset], '-inf', now, 'BYSCORE', 'LIMIT', 0, limit, 'WITHSCORES')
      for i = 1, #entries, 2 do
        found[#found + 1] = {member = entries[i], at = tonumber(entries[i + 1]), due_key = queue_keys[q],
                             waiting_key = queue_keys[q + 1], queue = (q + 1) / 2, is_run = offset == 1}
      end
    end
  end
  table.sort(found, function(a, b)
    if a.at ~= b.at then
      return a.at < b.at
    end
    return a.member < b.member
  end)
  for i = #found, limit + 1, -1 do
    found[i] = nil
  end
  return found
end

local function next_due(queue_keys)
  local soonest = math.huge
  for i = 1, #queue_keys do
    local head = redis.call('ZRANGE', queue_keys[i], 0, 0, 'WITHSCORES')
    if head[2] then
      soonest = math.min(soonest, tonumber(head[2]))
    end
  end
  return soonest
end
