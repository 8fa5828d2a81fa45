-- Records entries: remembers the event, parks the car, counts.
--
-- KEYS  1 bitmap of seen events, or the key of the stranger's event  2 visit
-- ARGV  1 bit of the event, '' for a stranger's  2 instant of the entry  3 ms that the visit is kept
--
-- Replies 'recorded' or 'duplicate'.
local call = redis.call

local function record(k, a)
  local seen, visit = KEYS[k + 1], KEYS[k + 2]
  local bit, at, stay = ARGV[a + 1], ARGV[a + 2], ARGV[a + 3]

  local taken, counter
  if bit == '' then
    taken, counter = not call('SET', seen, '', 'NX', 'EX', stranger_ttl), 'stranger_entries'
  else
    taken, counter = call('SETBIT', seen, bit, 1) == 1, 'entries'
  end
  if taken and deduplicate then
    count('duplicates')
    return 'duplicate'
  end

  -- A visit that is already there has been claimed ahead of its entry, or is a stranger's second entry.
  -- Either way it keeps the later of the two expiries.
  if not call('SET', visit, at, 'NX', 'PX', stay) then
    call('SET', visit, at, 'KEEPTTL')
    call('PEXPIRE', visit, stay, 'GT')
  end
  count(counter)
  return 'recorded'
end

return each(record, 2)
