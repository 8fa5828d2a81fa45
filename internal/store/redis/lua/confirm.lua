-- Advances the watermark of a run past events that the broker confirmed, and adds the plates of entries to the pool.
--
-- KEYS  1 watermark  2 runs  3 pool
-- ARGV  1 run  2 type of its events  3 seq of the first event  4 number of events
--       5 intents of the events, one letter each: 'm' matched, 'u' unmatched
--       6 instant, in Unix ms: plates that entered at or before it leave the pool; '' for exits
--       7… for entries: instant in Unix ms and plate of each event
--
-- Returns the new watermark. If it is below the first event, the store has lost earlier confirmations, and the
-- script has changed nothing.
local call = redis.call
local first, count = tonumber(ARGV[3]), tonumber(ARGV[4])

local stored = call('HMGET', KEYS[1], 'next', 'matched', 'unmatched')
local watermark = tonumber(stored[1] or 0)
if watermark < first then
  return watermark
end
if not stored[1] then
  call('HSET', KEYS[1], 'type', ARGV[2], 'next', 0)
  call('SADD', KEYS[2], ARGV[1])
end

local known = watermark - first
if known >= count then
  return watermark
end
local intents = string.sub(ARGV[5], known + 1)
local _, matched = string.gsub(intents, 'm', '')
local _, unmatched = string.gsub(intents, 'u', '')
watermark = first + count
call('HSET', KEYS[1], 'next', string.format('%.0f', watermark),
  'matched', string.format('%.0f', (stored[2] or 0) + matched),
  'unmatched', string.format('%.0f', (stored[3] or 0) + unmatched))
if ARGV[6] ~= '' then
  call('ZADD', KEYS[3], unpack(ARGV, 7 + 2 * known))
  call('ZREMRANGEBYSCORE', KEYS[3], '-inf', ARGV[6])
end
return watermark
