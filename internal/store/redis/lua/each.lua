-- Precedes every hot script, which takes the steps of several callers at once.
--
-- KEYS  1 ledger, then the keys of each step
-- ARGV  the arguments of each step

local counts = {}

-- Counts in the ledger, once all steps are taken. Where the server takes no writes, it refused those of the steps
-- before; nothing is counted then.
local function count(counter)
  counts[counter] = (counts[counter] or 0) + 1
end

-- Takes each step, of a number of keys: take is called with the positions in KEYS and ARGV before the step's own.
-- Returns their replies in order, texts all of them: that of a step that failed is '!' and its error, lest the
-- others be harmed. A replica takes none of them: its refusal is the error of the whole, so that the client looks
-- for the primary.
local function each(take, keys)
  local steps = (#KEYS - 1) / keys
  local args = #ARGV / steps
  local replies = {}
  for i = 0, steps - 1 do
    local taken, reply = pcall(take, 1 + i * keys, i * args)
    if not taken then
      reply = type(reply) == 'table' and reply.err or tostring(reply)
      if string.find(reply, '^READONLY') then
        return redis.error_reply(reply)
      end
      reply = '!' .. reply
    end
    replies[i + 1] = reply
  end
  for counter, n in pairs(counts) do
    redis.call('HINCRBY', KEYS[1], counter, n)
  end
  return replies
end
