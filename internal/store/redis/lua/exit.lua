-- Matches exits with their visits: remembers the event, ends the visit, leaves the summary in the outbox,
-- counts.
--
-- KEYS  1 bitmap of seen events, or the key of the stranger's event  2 visit  3 outbox
--       4 bitmap of events whose intent was matched
-- ARGV  1 bit of the event, '' for a stranger's  2 id of the exit  3 plate  4 instant of the exit
--       5 intent: 'matched', 'unmatched', or '' for a stranger's  6 '1' in the last attempt
--
-- Replies a result's name; those of matched and pending are followed by a space and the outbox row: the
-- instants of entry and exit, which are of fixed width, and the plate.
local call = redis.call

local function match(k, a)
  local seen, visit, outbox = KEYS[k + 1], KEYS[k + 2], KEYS[k + 3]
  local bit, id, at, intent = ARGV[a + 1], ARGV[a + 2], ARGV[a + 4], ARGV[a + 5]
  local stranger = bit == ''

  -- First what would come of it, without changing anything.
  local entered
  local result, final = 'unmatched_expected', true
  if intent ~= 'unmatched' then
    entered = call('GET', visit)
    if not entered or entered == '' then -- '' is a visit that was claimed ahead of its entry
      final = ARGV[a + 6] == '1'
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
  count(stranger and 'stranger_matched' or 'matched')
  return 'matched ' .. row
end

return each(match, 4)
