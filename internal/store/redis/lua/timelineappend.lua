-- Adds rows to the timeline.
--
-- KEYS  1 second of the latest merged row, by process  2 minutes that have rows
--       3 the rows of a minute, by "<second>:<process>"
-- ARGV  1 process  2 start of the minute  3 second  4 text of the row
--
-- Ignores a row that is not later than the latest merged one of its process: it was added before. Replies 'added'.
local call = redis.call

local function add(k, a)
  local merged, minutes, minute = KEYS[k + 1], KEYS[k + 2], KEYS[k + 3]
  local process, start, second, text = ARGV[a + 1], ARGV[a + 2], ARGV[a + 3], ARGV[a + 4]
  local last = tonumber(call('HGET', merged, process))
  if not last or tonumber(second) > last then
    call('HSET', minute, second .. ':' .. process, text)
    call('SADD', minutes, start)
  end
  return 'added'
end

return each(add, 3)
