-- Drops the late occurrences that the task's policy lets go. Returns true where the plan is too short to tell, because
-- every planned instant is late and the schedule goes on after them.
local function drop_late(task, id, plan, now, lines)
  local segments = plan.segments
  local function let_go(count, reason)
    if count > 0 then
      local first, last = drop(segments, count)
      lines[#lines + 1] = skip_line(id, plan.generation, reason, count, first, last)
      plan.cursor = math.max(plan.cursor, last)
    end
  end
  -- An occurrence may be due up to its jitter after its nominal instant.
  local late_until = now - task.grace - task.jitter
  if not segments[1] or segments[1][1] > late_until then
    return false
  end
  if not plan.complete and last_instant(segments) <= late_until then
    if plan.beside then
      -- It is no instant of the schedule, so whoever plans anew does not find it.
      let_go(1, task.misfire == 'skip' and 'misfire' or 'coalesced')
    end
    return true
  end
  if task.window > 0 then
    let_go(count_until(segments, math.min(late_until, now - task.window - task.jitter - 1)), 'window')
  end
  local late = count_until(segments, late_until)
  if task.misfire == 'coalesce' then
    let_go(late - 1, 'coalesced')
  elseif task.misfire == 'skip' then
    let_go(late, 'misfire')
  else
    let_go(late - task.catchup, 'limit')
  end
  return false
end
