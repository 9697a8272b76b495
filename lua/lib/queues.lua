-- The keys of some queues by their names: `names` joined by commas, in the order of `queue_keys`, a pair (due, waiting) each.
local function queues_by_name(names, queue_keys)
  local found, index = {}, 1
  for name in string.gmatch(names, '[^,]+') do
    found[name] = {name = name, due = queue_keys[index], waiting = queue_keys[index + 1]}
    index = index + 2
  end
  return found
end
