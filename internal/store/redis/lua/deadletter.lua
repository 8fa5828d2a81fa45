-- Counts a dead letter once per key.
--
-- KEYS  1 ledger  2 key of the dead letter
--
-- Returns 'counted' or 'duplicate'.
if not redis.call('SET', KEYS[2], '', 'NX', 'EX', dead_letter_ttl) then
  return 'duplicate'
end
redis.call('HINCRBY', KEYS[1], 'dead_letters', 1)
return 'counted'
