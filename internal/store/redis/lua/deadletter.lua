-- Counts dead letters, once per key.
--
-- KEYS  1 key of the dead letter
--
-- Replies 'counted' or 'duplicate'.
local function deadletter(k)
  if not redis.call('SET', KEYS[k + 1], '', 'NX', 'EX', dead_letter_ttl) then
    return 'duplicate'
  end
  count('dead_letters')
  return 'counted'
end

return each(deadletter, 1)
