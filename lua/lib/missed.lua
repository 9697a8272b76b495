-- The line for what a plan held until now and nobody decided. A plan that ends before now, though its schedule goes on, holds
-- too few to count. An instant beside the schedule is never missed: it stays.
local missed_line
function missed_line(id, plan, reason, now)
  if plan.beside then
    local beside = plan.beside
    drop(plan.segments, 1)
    plan.beside = nil
    local line = missed_line(id, plan, reason, now)
    table.insert(plan.segments, 1, {beside, 0, 1})
    plan.beside = beside
    return line
  end
  local count, first = count_until(plan.segments, now), plan.cursor + 1
  local is_known = plan.complete or (last_instant(plan.segments) or 0) > now
  local last = now
  if count > 0 then
    first, last = drop(plan.segments, count)
  elseif is_known or first > now then
    return nil
  end
  return skip_line(id, plan.generation, reason, is_known and count or 0, first, is_known and last or now)
end
