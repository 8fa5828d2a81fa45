-- Precedes every hot script. One execution of a hot script runs the steps of several callers.
--
-- KEYS  1 ledger, then the keys of each step
-- ARGV  the arguments of each step

local counts = {}

-- Adds 1 to a counter. The counters are added to the ledger when all steps have run. A step must call count after its
-- writes. If the server rejects the writes, the step ends before it calls count.
local function count(counter)
  counts[counter] = (counts[counter] or 0) + 1
end

-- Calls the given function once for each step, and returns the replies in order. The arguments of the function are the
-- positions in KEYS and ARGV that precede those of the step. keys is the number of keys of a step. Every reply is a
-- text. The reply of a failed step is '!' and the error, so that one failure does not affect the other steps. On a
-- replica, the whole script fails with the error of the step, so that the client looks for the primary.
local function each(run, keys)
  local steps = (#KEYS - 1) / keys
  local args = #ARGV / steps
  local replies = {}
  for i = 0, steps - 1 do
    local ok, reply = pcall(run, 1 + i * keys, i * args)
    if not ok then
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
