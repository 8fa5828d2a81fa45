-- Raises a run's count of draws that found the pool empty.
--
-- KEYS  1 counts by run
-- ARGV  1 run  2 count so far
--
-- Returns 'counted' or 'duplicate'.
if tonumber(ARGV[2]) <= tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or 0) then
  return 'duplicate'
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 'counted'
