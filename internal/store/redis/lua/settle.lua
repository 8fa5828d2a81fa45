-- Removes summaries from the outbox and counts them as stored, if they were there.
--
-- KEYS  1 outbox
-- ARGV  1 id of the exit
--
-- Replies 'settled' or 'duplicate'.
local function settle(k, a)
  if redis.call('HDEL', KEYS[k + 1], ARGV[a + 1]) == 0 then
    return 'duplicate'
  end
  count('summaries')
  return 'settled'
end

return each(settle, 1)
