-- Raises the number of a run's starved draws: exit draws that found no available plate.
--
-- KEYS  1 number of starved draws by run
-- ARGV  1 run  2 number so far
--
-- Returns 'counted' or 'duplicate'.
if tonumber(ARGV[2]) <= tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or 0) then
  return 'duplicate'
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 'counted'
