-- Matches exits with their visits: remembers the event, ends the visit, puts the summary into the outbox, counts.
--
-- KEYS  1 bitmap of seen events, or the key of an external event  2 visit  3 outbox
--       4 bitmap of events with the intent matched
-- ARGV  1 bit of the event, '' for an external event  2 id of the exit  3 plate  4 instant of the exit
--       5 intent: 'matched', 'unmatched', or '' for an external event  6 '1' in the last attempt
--
-- Replies the name of a result. 'matched' and 'pending' are followed by a space and the outbox row: the instants
-- of entry and exit, each of fixed width, and the plate.
local call = redis.call

local function match(k, a)
  local seen, visit, outbox = KEYS[k + 1], KEYS[k + 2], KEYS[k + 3]
  local bit, id, at, intent = ARGV[a + 1], ARGV[a + 2], ARGV[a + 4], ARGV[a + 5]
  local external = bit == ''

  -- First find the result, without changing anything.
  local entered
  local result, final = 'unmatched_expected', true
  if intent ~= 'unmatched' then
    entered = call('GET', visit)
    if not entered or entered == '' then -- '' is a visit that was claimed before its entry was processed
      final = ARGV[a + 6] == '1'
      result = not final and 'early' or external and 'entry_not_found' or 'unmatched_unexpected'
    elseif entered > at then
      result, final = 'precedes_entry', false
    else
      result = 'matched'
    end
  end

  -- Then find out whether the event took effect before. Only a final result is remembered.
  local known
  if external and final then
    known = not call('SET', seen, '', 'NX', 'EX', external_id_ttl)
  elseif external then
    known = call('EXISTS', seen) == 1
  elseif final then
    known = call('SETBIT', seen, bit, 1) == 1
  else
    known = call('GETBIT', seen, bit) == 1
  end
  if known and deduplicate then
    local row = call('HGET', outbox, id)
    if row then
      return 'pending ' .. row -- counted when it is settled
    end
    count('duplicates')
    return 'duplicate'
  end
  if not final then
    return result
  end

  if intent == 'matched' then
    call('SETBIT', KEYS[k + 4], bit, 1)
  end
  if result ~= 'matched' then
    count(result)
    return result
  end
  local row = entered .. at .. ARGV[a + 3]
  call('DEL', visit)
  call('HSET', outbox, id, row)
  count(external and 'external_matched' or 'matched')
  return 'matched ' .. row
end

return each(match, 4)
