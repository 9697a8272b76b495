-- Takes an ended or deleted task out of every column. Young saves keep their replies, so that a late repeat of the
-- creating call cannot bring the task back.
local function remove_task(keys, id, now)
  local record = redis.call('HGET', keys.tasks, id)
  local task = record and parse_task(record)
  if task then
    redis.call('ZREM', keys.labels, task.label .. '\0' .. id)
    for _, op in ipairs({task.created_op, task.op ~= task.created_op and task.op or nil}) do
      if not is_expired(op, now) then
        keep_reply(keys.replies, keys.reply_times, op, now, 'saved ' .. task.generation .. ' ' .. task.version)
      end
    end
  end
  redis.call('HDEL', keys.tasks, id)
  redis.call('HDEL', keys.plan, id)
  redis.call('HDEL', keys.open, id)
  redis.call('HDEL', keys.remaining, id)
  redis.call('HDEL', keys.held, id)
  redis.call('HDEL', keys.last, id)
  redis.call('HDEL', keys.streak, id)
  redis.call('HDEL', keys.skips, id)
  redis.call('HDEL', keys.backfills, id)
  redis.call('HDEL', keys.paused, id)
  redis.call('HDEL', keys.unroutable, id)
  redis.call('HDEL', keys.quarantine, id)
  return task
end

local function end_line(id, generation, reason, task)
  return table.concat({'ended', id, generation, reason, task and task.label or ''}, '\t')
end
