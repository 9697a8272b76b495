-- The ledger: one stream entry per call, a line per fact, tab-separated.
local function skip_line(id, generation, reason, count, first, last)
  return table.concat({'skip', id, generation, reason, int(count), int(first), int(last)}, '\t')
end

local function write_ledger(history_key, lines)
  if #lines > 0 then
    redis.call('XADD', history_key, 'MAXLEN', '~', 2000, '*', 'lines', table.concat(lines, '\n'))
  end
end
