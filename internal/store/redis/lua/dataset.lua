-- Writes a mark into the simulation's data, unless the data has one. If the mark is missing later, the server has lost
-- data.
--
-- KEYS  1 ledger  2 owner
-- ARGV  1 mark to set if the data has no mark  2 number of partitions
--       3 instant, in Unix ms, at which a loss of data was noticed; '' for no loss
--       4 owner to set if the data has no owner; '' for none
--
-- Returns the mark and the number of partitions that the ledger holds. If the data has another owner, changes nothing
-- and returns an empty list.
local call, ledger = redis.call, KEYS[1]
if ARGV[4] ~= '' then
  local owner = call('GET', KEYS[2])
  if not owner then
    call('SET', KEYS[2], ARGV[4])
  elseif owner ~= ARGV[4] then
    return {}
  end
end
if call('HSETNX', ledger, 'dataset', ARGV[1]) == 1 then
  call('HSET', ledger, 'partitions', ARGV[2])
end
if ARGV[3] ~= '' then
  call('HSETNX', ledger, 'lost_at', ARGV[3])
end
return call('HMGET', ledger, 'dataset', 'partitions')
