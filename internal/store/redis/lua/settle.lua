-- Removes summaries from the outbox and counts them as stored. A summary that is no longer there was settled by
-- another delivery of the same exit, so this delivery counts as a duplicate.
--
-- KEYS  1 outbox
-- ARGV  1 id of the exit
--
-- Replies 'settled' or 'duplicate'.
local function settle(k, a)
  if redis.call('HDEL', KEYS[k + 1], ARGV[a + 1]) == 0 then
    count('duplicates')
    return 'duplicate'
  end
  count('summaries')
  return 'settled'
end

return each(settle, 1)
