-- Marks the simulation's data, unless they have a mark.
--
-- KEYS  1 ledger
-- ARGV  1 mark to set if the data has no mark  2 number of partitions
--       3 instant, in Unix ms, at which a loss of data was noticed; '' for no loss
--
-- Returns the mark and the number of partitions that the ledger holds.
local call, ledger = redis.call, KEYS[1]
if call('HSETNX', ledger, 'dataset', ARGV[1]) == 1 then
  call('HSET', ledger, 'partitions', ARGV[2])
end
if ARGV[3] ~= '' then
  call('HSETNX', ledger, 'lost_at', ARGV[3])
end
return call('HMGET', ledger, 'dataset', 'partitions')
