-- Matches an exit with its visit: remembers the event, ends the visit, leaves the summary in the outbox,
-- counts.
--
-- KEYS  1 ledger  2 bitmap of seen events, or the key of the stranger's event  3 visit  4 outbox
--       5 bitmap of events whose intent was matched
-- ARGV  1 bit of the event, '' for a stranger's  2 id of the exit  3 plate  4 instant of the exit
--       5 intent: 'matched', 'unmatched', or '' for a stranger's  6 '1' in the last attempt
--
-- Returns a result's name; those of matched and pending are followed by a space and the outbox row: the
-- instants of entry and exit, which are of fixed width, and the plate.
local call = redis.call
local ledger, seen, visit, outbox = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local bit, id, at, intent = ARGV[1], ARGV[2], ARGV[4], ARGV[5]
local stranger = bit == ''

-- First what would come of it, without changing anything.
local entered
local result, final = 'unmatched_expected', true
if intent ~= 'unmatched' then
  entered = call('GET', visit)
  if not entered or entered == '' then -- '' is a visit that was claimed ahead of its entry
    final = ARGV[6] == '1'
    result = not final and 'early' or stranger and 'entry_not_found' or 'unmatched_unexpected'
  elseif entered > at then
    result, final = 'precedes_entry', false
  else
    result = 'matched'
  end
end

-- Then whether it came of it before. Only a final result is remembered.
local taken
if stranger and final then
  taken = not call('SET', seen, '', 'NX', 'EX', stranger_ttl)
elseif stranger then
  taken = call('EXISTS', seen) == 1
elseif final then
  taken = call('SETBIT', seen, bit, 1) == 1
else
  taken = call('GETBIT', seen, bit) == 1
end
if taken and deduplicate then
  local row = call('HGET', outbox, id)
  if row then
    return 'pending ' .. row
  end
  call('HINCRBY', ledger, 'duplicates', 1)
  return 'duplicate'
end
if not final then
  return result
end

if intent == 'matched' then
  call('SETBIT', KEYS[5], bit, 1)
end
if result ~= 'matched' then
  call('HINCRBY', ledger, result, 1)
  return result
end
local row = entered .. at .. ARGV[3]
call('DEL', visit)
call('HSET', outbox, id, row)
call('HINCRBY', ledger, stranger and 'stranger_matched' or 'matched', 1)
return 'matched ' .. row
