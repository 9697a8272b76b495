-- The one reading of time in a script: the server's clock, or the instant a test injects.
local function server_now(injected)
  if injected ~= '' then
    return tonumber(injected)
  end
  local t = redis.call('TIME')
  return tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
end

local function int(number)
  return string.format('%.0f', number)
end
