-- Adds rows of one process to the timeline.
--
-- KEYS  1 second of the latest merged row, by process  2 minutes that have rows
--       3… the rows of a minute, by "<second>:<process>"
-- ARGV  1 process
--       then for each row: position of its minute in KEYS, start of the minute, second, text
--
-- Ignores a row that is not later than the latest merged one of its process: it was added before.
local call, process = redis.call, ARGV[1]
local merged = tonumber(call('HGET', KEYS[1], process))
for i = 2, #ARGV, 4 do
  local minute, start, second, text = KEYS[tonumber(ARGV[i])], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  if not merged or tonumber(second) > merged then
    call('HSET', minute, second .. ':' .. process, text)
    call('SADD', KEYS[2], start)
  end
end
return 'added'
