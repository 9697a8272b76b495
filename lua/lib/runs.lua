-- What an open run is while nobody or somebody holds it.
-- `waiting` run id -> "<number> <losses> <nominal> <previous> <queue>"
-- `live:<boot>` run id -> "<token> <number> <losses> <started> <seq> <nominal> <previous> <queue>"; started is 0 or 1
local function parse_waiting(text)
  local number, losses, nominal, previous, queue = string.match(text, '^(%d+) (%d+) (%d+) (%S+) (%S+)$')
  if not number then
    return nil
  end
  return {number = tonumber(number), losses = tonumber(losses), nominal = nominal, previous = previous, queue = queue}
end

local function format_waiting(run)
  return table.concat({int(run.number), int(run.losses), run.nominal, run.previous, run.queue}, ' ')
end

local function parse_live(text)
  local token, number, losses, started, seq, nominal, previous, queue =
    string.match(text, '^(%d+) (%d+) (%d+) ([01]) (%d+) (%d+) (%S+) (%S+)$')
  if not token then
    return nil
  end
  return {token = token, number = tonumber(number), losses = tonumber(losses), started = started, seq = seq,
          nominal = nominal, previous = previous, queue = queue}
end

local function format_live(run)
  return table.concat({run.token, int(run.number), int(run.losses), run.started, run.seq, run.nominal, run.previous,
                       run.queue}, ' ')
end
