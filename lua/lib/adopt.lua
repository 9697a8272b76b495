-- A plan made by a client, in the light of the server's clock. Returns nil where it was made with a clock that runs ahead,
-- or has nothing left though the schedule goes on: the client plans again from the server's time.
local function adopt_plan(text, planned_from, after)
  local segments, complete = parse_segments(text)
  if not segments or planned_from > after then
    return nil
  end
  drop(segments, count_until(segments, after))
  if not segments[1] and not complete then
    return nil
  end
  return segments, complete
end
