-- Returns plates of a claim to the pool, once, and shortens the lifetime of their visits again.
--
-- KEYS  1 pool  2 claims of the run  3 prefix of the keys of visits. All of them have the
--       hash tag of the prefix.
-- ARGV  1 token  2 lifetime of unclaimed visits in ms  3… plates
--
-- Returns the number of plates returned.
local call = redis.call
local claims, token = KEYS[2], ARGV[1]

local answered = call('HGET', claims, token)
if not answered then
  return 0
end
local claimed, entered = cmsgpack.unpack(answered), {}
for i = 1, #claimed, 2 do
  entered[claimed[i]] = claimed[i + 1]
end
call('HSET', claims, token, cmsgpack.pack({}))

local released = 0
for i = 3, #ARGV do
  local plate = ARGV[i]
  if entered[plate] then
    call('ZADD', KEYS[1], entered[plate], plate)
    call('PEXPIRE', KEYS[3] .. plate, ARGV[2])
    released = released + 1
  end
end
return released
