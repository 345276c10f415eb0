"""Live messages in Redis: a stream for each user and each listing that somebody looks at, and one that fans all out.

A stream exists only while somebody reads it, and some minutes longer, so that a client that reconnects misses nothing:
messages for nobody are not written. The fan-out stream repeats every message for the API's processes, each of which
reads this one stream for all its clients. Ids are ordered over all streams, so one id says how far a client has read.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from redis.asyncio import Redis

FAN_OUT, LAST_ID = "live:fan-out", "live:last-id"
KEPT_SECONDS = 360
"""Age at which messages are deleted: a client that reconnects within five minutes misses nothing, and its position may
be that of the last sign of life, some seconds before the connection broke."""
_UNREAD_SECONDS = 480
"""Lifetime of a stream without a reader; readers extend it every minute."""
_LONGEST = 1000
"""Messages of one stream: more than a page can show after five minutes."""
_FAN_OUT_SECONDS = 60
"""Age at which the fan-out forgets. A process that is later reads the streams of its clients instead."""
_BATCH = 500
"""Keys or messages in one pipeline, and messages in one read: some milliseconds, in which Redis answers nobody else."""

NOTHING = "0-0"
"""An id before every other."""

# An id is the time in milliseconds and a number, as Redis makes them, but rises over all streams. Without `LAST_ID`,
# which Redis may have lost, readers know that messages may be lost too.
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
_PUBLISH = (
    _FUNCTIONS
    + _TRIM
    + """
if redis.call('EXISTS', KEYS[1]) == 0 then return false end
if redis.call('ZADD', KEYS[3], 'NX', now, ARGV[4]) == 0 then return false end
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now - ARGV[1] * 1000)
redis.call('PEXPIRE', KEYS[3], math.max(redis.call('PTTL', KEYS[1]), ARGV[1] * 1000))
local last = redis.call('GET', KEYS[5])
local id = string.format('%.0f-0', now)
for _, known in ipairs(last and {last} or {newest(KEYS[1]), newest(KEYS[4])}) do
    if not before(known, id) then
        local ms, n = parts(known)
        id = string.format('%.0f-%.0f', ms, n + 1)
    end
end
redis.call('XADD', KEYS[1], id, 'type', ARGV[5], 'data', ARGV[6])
trim(KEYS[1], KEYS[2], ARGV[1], ARGV[2])
redis.call('SET', KEYS[5], id)
redis.call('XADD', KEYS[4], id, 'stream', KEYS[1], 'type', ARGV[5], 'data', ARGV[6], 'previous', last or '')
redis.call('XTRIM', KEYS[4], 'MINID', string.format('%.0f', now - ARGV[3] * 1000))
redis.call('EXPIRE', KEYS[4], ARGV[3])
return id
"""
)
# KEYS: the stream, its since. ARGV: seconds and messages to keep, seconds to live.
_KEEP = (
    _FUNCTIONS
    + _TRIM
    + """
if redis.call('EXPIRE', KEYS[1], ARGV[3]) == 0 or redis.call('EXPIRE', KEYS[2], ARGV[3]) == 0 then return 0 end
trim(KEYS[1], KEYS[2], ARGV[1], ARGV[2])
return 1
"""
)
# KEYS: the stream, its since, the last id. ARGV: the position of the reader or nothing, seconds to live.
_OPEN = (
    _FUNCTIONS
    + """
local last = redis.call('GET', KEYS[3])
if not last then
    last = string.format('%.0f-0', now)
    redis.call('SET', KEYS[3], last)
end
if redis.call('EXISTS', KEYS[1]) == 0 then
    redis.call('XADD', KEYS[1], last, 'type', '', 'data', '')
    redis.call('SET', KEYS[2], last)
end
redis.call('SET', KEYS[2], last, 'NX')
for n = 1, 2 do redis.call('EXPIRE', KEYS[n], ARGV[2]) end
if ARGV[1] == '' then return {last, 1} end
if before(ARGV[1], redis.call('GET', KEYS[2])) or before(last, ARGV[1]) then return {last, 0} end
return {last, 1}
"""
)
# KEYS: the last id.
_BEGIN = (
    _FUNCTIONS
    + """
local id = string.format('%.0f-0', now)
redis.call('SET', KEYS[1], id, 'NX')
return redis.call('GET', KEYS[1])
"""
)
# KEYS: the fan-out, the last id. ARGV: the position of the reader, the number of messages.
_READ = "return {redis.call('GET', KEYS[2]), redis.call('XRANGE', KEYS[1], '(' .. ARGV[1], '+', 'COUNT', ARGV[2])}"


@dataclass(frozen=True)
class LiveMessage:
    """A message for the readers of one stream. A second one with the same `key` is not written."""

    stream: str
    type: str
    key: str
    data: bytes
    """JSON, without personal data."""


@dataclass(frozen=True)
class Entry:
    """A message in a stream."""

    id: str
    stream: str
    type: str
    data: bytes
    previous: str = ""
    """In the fan-out, the id of the message before it."""

    @property
    def order(self) -> tuple[int, int]:
        return order_of(self.id)


@dataclass(frozen=True)
class Opened:
    """Streams as a reader finds them: the last id of all, which of them lack messages after its position, and those
    that are there."""

    last: str
    incomplete: frozenset[str]
    entries: list[Entry]


def user_stream(tenant_id: str, user_id: UUID) -> str:
    """It names the user, so that an erasure finds it."""
    return f"{{{tenant_id}:{user_id}}}:live:user"


def property_stream(tenant_id: str, property_id: UUID) -> str:
    return f"{{{tenant_id}:{property_id}}}:live:property"


def order_of(id: str) -> tuple[int, int]:
    """Sorts ids. Raises ValueError when it is none."""
    milliseconds, _, number = id.partition("-")
    return int(milliseconds), int(number)


class LiveStreams:
    """Writes and reads the streams; every method raises RedisError."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._publish, self._open = redis.register_script(_PUBLISH), redis.register_script(_OPEN)
        self._keep = redis.register_script(_KEEP)
        self._read, self._begin = redis.register_script(_READ), redis.register_script(_BEGIN)

    async def publish(self, messages: Sequence[LiveMessage]) -> int:
        """Write messages to the streams that exist; returns how many were written."""
        written = 0
        for n in range(0, len(messages), _BATCH):
            batch = messages[n : n + _BATCH]
            streams = list(dict.fromkeys(message.stream for message in batch))
            async with self._redis.pipeline(transaction=False) as pipe:
                for stream in streams:
                    pipe.exists(stream)
                read = {stream for stream, found in zip(streams, await pipe.execute(), strict=True) if found}
            if wanted := [message for message in batch if message.stream in read]:
                async with self._redis.pipeline(transaction=False) as pipe:
                    for message in wanted:
                        await self._publish(
                            [message.stream, _since(message.stream), f"{message.stream}:seen", FAN_OUT, LAST_ID],
                            [KEPT_SECONDS, _LONGEST, _FAN_OUT_SECONDS, message.key, message.type, message.data],
                            client=pipe,
                        )
                    written += sum(id is not None for id in await pipe.execute())
        return written

    async def open(self, streams: Iterable[str], position: str | None) -> Opened:
        """Create the streams that do not exist, and read the messages after `position`; None begins with later ones."""
        last, incomplete, entries = NOTHING, set(), []
        names = list(streams)
        for n in range(0, len(names), _BATCH):
            batch = names[n : n + _BATCH]
            # A transaction, so that every message up to the last id is read.
            async with self._redis.pipeline(transaction=True) as pipe:
                for stream in batch:
                    await self._open([stream, _since(stream), LAST_ID], [position or "", _UNREAD_SECONDS], client=pipe)
                    if position is not None:
                        pipe.execute_command("XRANGE", stream, f"({position}", "+", **{"NEVER_DECODE": True})
                answers = await pipe.execute()
            step = 1 if position is None else 2
            for stream, (at, is_complete), *found in zip(batch, answers[::step], *_ranges(answers, step), strict=True):
                last = at.decode()
                if not is_complete:
                    incomplete.add(stream)
                entries += [_entry(stream, *one) for one in (found[0] if found else ())]
        return Opened(last, frozenset(incomplete), sorted(entries, key=lambda entry: entry.order))

    async def begin(self) -> str:
        """The last id, from which a process begins to read; a new one if Redis has none."""
        last: bytes = await self._begin([LAST_ID])
        return last.decode()

    async def read(self, position: str) -> tuple[str | None, list[Entry]]:
        """The last id, and what the fan-out has after `position`, up to a batch. Without a last id, Redis was wiped."""
        last, found = await self._read([FAN_OUT, LAST_ID], [position, _BATCH])
        return last.decode() if last else None, [_entry("", *one) for one in found]

    async def keep(self, streams: Iterable[str]) -> set[str]:
        """Extend the life of streams and delete what is old; returns those that are lost."""
        names, lost = list(streams), set()
        for n in range(0, len(names), _BATCH):
            batch = names[n : n + _BATCH]
            async with self._redis.pipeline(transaction=False) as pipe:
                for stream in batch:
                    await self._keep([stream, _since(stream)], [KEPT_SECONDS, _LONGEST, _UNREAD_SECONDS], client=pipe)
                answers = await pipe.execute()
            lost |= {stream for stream, is_there in zip(batch, answers, strict=True) if not is_there}
        return lost


class FanOut:
    """Waits for messages. Its client has one connection, because a read that blocks occupies it."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def wait(self, position: str, seconds: float) -> None:
        """Return once there is a message after `position`, or after `seconds`. Raises RedisError."""
        await self._redis.xread({FAN_OUT: position}, count=1, block=int(seconds * 1000))

    async def close(self) -> None:
        await self._redis.aclose()


def _since(stream: str) -> str:
    """The key of the position from which a stream is complete."""
    return f"{stream}:since"


def _ranges(answers: list[Any], step: int) -> tuple[list[Any], ...]:
    return (answers[1::step],) if step == 2 else ()


def _entry(stream: str, id: bytes, fields: list[bytes] | dict[bytes, bytes]) -> Entry:
    known = fields if isinstance(fields, dict) else dict(zip(fields[::2], fields[1::2], strict=True))
    return Entry(
        id=id.decode(),
        stream=known.get(b"stream", stream.encode()).decode(),
        type=known[b"type"].decode(),
        data=known[b"data"],
        previous=known.get(b"previous", b"").decode(),
    )
