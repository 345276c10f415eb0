"""Scripts of the live streams, which Redis runs at one moment each (`adapters/live.py`)."""

# An id is the time in milliseconds and a number, as Redis makes them, but rises over all streams. Without `LAST_ID`,
# which Redis may have lost, readers know that messages may be lost too. Made again from the clock, it may be below the
# ids of a stream that was written before the clock was set back: XADD would refuse every message until that time.
_FUNCTIONS = """
local function parts(id)
    local ms, n = string.match(id, '^(%d+)-(%d+)$')
    return tonumber(ms), tonumber(n)
end
local function before(a, b)
    local x, i = parts(a)
    local y, j = parts(b)
    return x < y or x == y and i < j
end
local function newest(key)
    if redis.call('EXISTS', key) == 0 then return '0-0' end
    local facts = redis.call('XINFO', 'STREAM', key)
    for i = 1, #facts, 2 do
        if facts[i] == 'last-generated-id' then return facts[i + 1] end
    end
end
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local function next_id(last, stream, all)
    local id = string.format('%.0f-0', now)
    for _, known in ipairs({last or '0-0', newest(stream), newest(all)}) do
        if not before(known, id) then
            local ms, n = parts(known)
            id = string.format('%.0f-%.0f', ms, n + 1)
        end
    end
    return id
end
local function fan_out(all, seconds, id, last, stream, type, data)
    redis.call('XADD', all, id, 'stream', stream, 'type', type, 'data', data, 'previous', last or '')
    redis.call('XTRIM', all, 'MINID', string.format('%.0f', now - seconds * 1000))
    redis.call('EXPIRE', all, seconds)
end
"""
# `since` is the position from which a stream is complete. KEYS: the stream, its since. ARGV: seconds, messages to keep.
_TRIM = """
local function trim(stream, since, seconds, longest)
    local from, oldest = redis.call('GET', since) or '0-0', string.format('%.0f-0', now - seconds * 1000)
    if redis.call('XTRIM', stream, 'MINID', oldest) > 0 and before(from, oldest) then from = oldest end
    if redis.call('XTRIM', stream, 'MAXLEN', longest) > 0 then
        from = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1][1]
    end
    if from ~= '0-0' then redis.call('SET', since, from, 'KEEPTTL') end
end
"""
# KEYS: the stream, its since, what it has had, the fan-out, the last id. ARGV: seconds and messages to keep, seconds in
# the fan-out, key, type and data of the message.
PUBLISH = (
    _FUNCTIONS
    + _TRIM
    + """
if redis.call('EXISTS', KEYS[1]) == 0 then return false end
if redis.call('ZADD', KEYS[3], 'NX', now, ARGV[4]) == 0 then return false end
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now - ARGV[1] * 1000)
redis.call('PEXPIRE', KEYS[3], math.max(redis.call('PTTL', KEYS[1]), ARGV[1] * 1000))
local last = redis.call('GET', KEYS[5])
local id = next_id(last, KEYS[1], KEYS[4])
redis.call('XADD', KEYS[1], id, 'type', ARGV[5], 'data', ARGV[6])
trim(KEYS[1], KEYS[2], ARGV[1], ARGV[2])
redis.call('SET', KEYS[5], id)
fan_out(KEYS[4], ARGV[3], id, last, KEYS[1], ARGV[5], ARGV[6])
return id
"""
)
# KEYS: the stream, its since. ARGV: seconds and messages to keep, seconds to live.
EXTEND = (
    _FUNCTIONS
    + _TRIM
    + """
if redis.call('EXPIRE', KEYS[1], ARGV[3]) == 0 or redis.call('EXPIRE', KEYS[2], ARGV[3]) == 0 then return 0 end
trim(KEYS[1], KEYS[2], ARGV[1], ARGV[2])
return 1
"""
)
# A stream begins with an entry without a type, which is fanned out too: who has subscribers of this stream already
# learns that it was evicted. KEYS: the stream, its since, the fan-out, the last id. ARGV: the position of the
# subscriber or nothing, seconds to live, seconds in the fan-out.
OPEN = (
    _FUNCTIONS
    + """
local last = redis.call('GET', KEYS[4])
local is_created = redis.call('EXISTS', KEYS[1]) == 0
if is_created or not last then
    local id = next_id(last, KEYS[1], KEYS[3])
    if is_created then
        redis.call('XADD', KEYS[1], id, 'type', '', 'data', '')
        redis.call('SET', KEYS[2], id)
        fan_out(KEYS[3], ARGV[3], id, last, KEYS[1], '', '')
    end
    redis.call('SET', KEYS[4], id)
    last = id
end
redis.call('SET', KEYS[2], last, 'NX')
for n = 1, 2 do redis.call('EXPIRE', KEYS[n], ARGV[2]) end
if ARGV[1] == '' then return {last, 1} end
if before(ARGV[1], redis.call('GET', KEYS[2])) or before(last, ARGV[1]) then return {last, 0} end
return {last, 1}
"""
)
# KEYS: the fan-out, the last id.
LAST = (
    _FUNCTIONS
    + """
local last = redis.call('GET', KEYS[2])
if last then return last end
local id = next_id(last, KEYS[1], KEYS[1])
redis.call('SET', KEYS[2], id)
return id
"""
)
# KEYS: the fan-out, the last id. ARGV: the position of the reader, the number of messages.
READ = "return {redis.call('GET', KEYS[2]), redis.call('XRANGE', KEYS[1], '(' .. ARGV[1], '+', 'COUNT', ARGV[2])}"
