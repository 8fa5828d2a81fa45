-- Claims the plates whose entries are the oldest: removes the plates from the pool and extends their visits.
--
-- KEYS  1 pool  2 claims of the run  3 their tokens, oldest first  4 prefix of the keys of visits. Only this script
--       knows which visits it will touch, but all of them have the hash tag of the prefix.
-- ARGV  1 token  2 limit  3 instant, in Unix ms: plates that entered at or before it leave the pool
--       4 instant of the latest entry that may be claimed  5 lifetime of claimed visits in ms
--       6 number of claims to remember
--
-- Returns the plates, each followed by the instant of its entry.
local call = redis.call
local pool, claims, tokens, token, stay = KEYS[1], KEYS[2], KEYS[3], ARGV[1], ARGV[5]

local answered = call('HGET', claims, token)
if answered then
  return cmsgpack.unpack(answered)
end

call('ZREMRANGEBYSCORE', pool, '-inf', ARGV[3])
local plates = call('ZRANGE', pool, '-inf', ARGV[4], 'BYSCORE', 'LIMIT', 0, ARGV[2], 'WITHSCORES')
if #plates == 0 then
  return plates
end
call('ZREMRANGEBYRANK', pool, 0, #plates / 2 - 1)
for i = 1, #plates, 2 do
  local visit = KEYS[4] .. plates[i]
  if call('PEXPIRE', visit, stay) == 0 then
    call('SET', visit, '', 'PX', stay) -- the entry has not been processed yet
  end
end

call('HSET', claims, token, cmsgpack.pack(plates))
if call('RPUSH', tokens, token) > tonumber(ARGV[6]) then
  call('HDEL', claims, call('LPOP', tokens))
end
call('PEXPIRE', claims, stay)
call('PEXPIRE', tokens, stay)
return plates
