-- Precedes every hot script, which takes the steps of several callers at once.
--
-- KEYS  1 ledger, then the keys of each step
-- ARGV  the arguments of each step

local counts = {}

-- Counts in the ledger, once all steps are taken.
local function count(counter)
  counts[counter] = (counts[counter] or 0) + 1
end

-- Takes each step, of a number of keys and arguments: take is called with the positions in KEYS and ARGV before
-- the step's own. Returns their replies in order, for a step that failed its error; the others are not harmed.
local function each(take, keys, args)
  local replies = {}
  for i = 0, (#KEYS - 1) / keys - 1 do
    local taken, reply = pcall(take, 1 + i * keys, i * args)
    if not taken and type(reply) ~= 'table' then
      reply = redis.error_reply(reply)
    end
    replies[i + 1] = reply
  end
  for counter, n in pairs(counts) do
    redis.call('HINCRBY', KEYS[1], counter, n)
  end
  return replies
end
