-- Removes a summary from the outbox and counts it as stored, if it was there.
--
-- KEYS  1 ledger  2 outbox
-- ARGV  1 id of the exit
--
-- Returns 'settled' or 'duplicate'.
if redis.call('HDEL', KEYS[2], ARGV[1]) == 0 then
  return 'duplicate'
end
redis.call('HINCRBY', KEYS[1], 'summaries', 1)
return 'settled'
