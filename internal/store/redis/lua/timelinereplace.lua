-- Puts a block of the timeline in the place of a minute or of blocks of a finer tier.
--
-- KEYS  1 generation  2 blocks of the tier, by start  3 second of the latest merged row, by process
--       4 minutes that have rows  5 the rows of the minute, or the blocks of the finer tier
-- ARGV  1 start of the block  2 its version, '' if it does not exist  3 its new text  4 generation
--       5 'minute' or 'blocks'
--       for a minute: 6 its start  7 its version  8 a second: earlier entries of KEYS 3 are removed,
--       then for each process its name and the second of its latest merged row
--       for blocks: for each its start and version
--
-- Changes nothing and returns 'stale' if the generation or any version has changed: another process was faster.
local call = redis.call

local function version(key, field)
  local text = call('HGET', key, field)
  return text and redis.sha1hex(text) or ''
end

if tonumber(call('GET', KEYS[1]) or 0) ~= tonumber(ARGV[4]) or version(KEYS[2], ARGV[1]) ~= ARGV[2] then
  return 'stale'
end
if ARGV[5] == 'minute' then
  if call('HLEN', KEYS[5]) ~= tonumber(ARGV[7]) then
    return 'stale'
  end
  for i = 9, #ARGV, 2 do
    local before = tonumber(call('HGET', KEYS[3], ARGV[i]))
    if not before or tonumber(ARGV[i + 1]) > before then
      call('HSET', KEYS[3], ARGV[i], ARGV[i + 1])
    end
  end
  local merged = call('HGETALL', KEYS[3])
  for i = 1, #merged, 2 do
    if tonumber(merged[i + 1]) < tonumber(ARGV[8]) then
      call('HDEL', KEYS[3], merged[i])
    end
  end
  call('DEL', KEYS[5])
  call('SREM', KEYS[4], ARGV[6])
else
  for i = 6, #ARGV, 2 do
    if version(KEYS[5], ARGV[i]) ~= ARGV[i + 1] then
      return 'stale'
    end
  end
  for i = 6, #ARGV, 2 do
    call('HDEL', KEYS[5], ARGV[i])
  end
end
call('HSET', KEYS[2], ARGV[1], ARGV[3])
call('INCR', KEYS[1])
return 'replaced'
