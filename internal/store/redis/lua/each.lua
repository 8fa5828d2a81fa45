-- Precedes every hot script. One execution of a hot script runs the steps of several callers.
--
-- KEYS  1 ledger, then the keys of each step
-- ARGV  the arguments of each step

local counts = {}

-- Adds 1 to a counter of the ledger after the last step. If the server accepts no writes, it has rejected those of
-- the step, so the step is not counted.
local function count(counter)
  counts[counter] = (counts[counter] or 0) + 1
end

-- Calls run once per step, with the positions in KEYS and ARGV that precede the step's own, and returns the replies
-- in order. keys is the number of keys of a step. Every reply is a text. The reply of a failed step is '!' and the
-- error, so that one failure does not affect the other steps. On a replica the error is that of the whole script, so
-- that the client looks for the primary.
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
