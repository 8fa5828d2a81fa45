-- Records entries: remembers the event, creates the visit, counts.
--
-- KEYS  1 bitmap of seen events, or the key of an external event  2 visit
-- ARGV  1 bit of the event, '' for an external event  2 instant of the entry  3 lifetime of the visit in ms
--
-- Replies 'recorded' or 'duplicate'.
local call = redis.call

local function record(k, a)
  local seen, visit = KEYS[k + 1], KEYS[k + 2]
  local bit, at, stay = ARGV[a + 1], ARGV[a + 2], ARGV[a + 3]

  local known, counter
  if bit == '' then
    known, counter = not call('SET', seen, '', 'NX', 'EX', external_id_ttl), 'external_entries'
  else
    known, counter = call('SETBIT', seen, bit, 1) == 1, 'entries'
  end
  if known and deduplicate then
    count('duplicates')
    return 'duplicate'
  end

  -- The visit exists if an exit generator claimed the plate before its entry was processed, or if the plate
  -- entered before. This entry replaces the earlier one. The visit keeps the later of the two expiries.
  if not call('SET', visit, at, 'NX', 'PX', stay) then
    call('SET', visit, at, 'KEEPTTL')
    call('PEXPIRE', visit, stay, 'GT')
  end
  count(counter)
  return 'recorded'
end

return each(record, 2)
