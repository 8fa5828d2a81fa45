-- Records an entry: remembers the event, parks the car, counts.
--
-- KEYS  1 ledger  2 bitmap of seen events, or the key of the stranger's event  3 visit
-- ARGV  1 bit of the event, '' for a stranger's  2 instant of the entry  3 ms that the visit is kept
--
-- Returns 'recorded' or 'duplicate'.
local call = redis.call
local ledger, seen, visit = KEYS[1], KEYS[2], KEYS[3]
local bit, at, stay = ARGV[1], ARGV[2], ARGV[3]

local taken, counter
if bit == '' then
  taken, counter = not call('SET', seen, '', 'NX', 'EX', stranger_ttl), 'stranger_entries'
else
  taken, counter = call('SETBIT', seen, bit, 1) == 1, 'entries'
end
if taken and deduplicate then
  call('HINCRBY', ledger, 'duplicates', 1)
  return 'duplicate'
end

-- A visit that is already there has been claimed ahead of its entry, or is a stranger's second entry.
-- Either way it keeps the later of the two expiries.
if not call('SET', visit, at, 'NX', 'PX', stay) then
  call('SET', visit, at, 'KEEPTTL')
  call('PEXPIRE', visit, stay, 'GT')
end
call('HINCRBY', ledger, counter, 1)
return 'recorded'
