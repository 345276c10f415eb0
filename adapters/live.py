"""Live messages in Redis: a stream for each user and each watched listing, and a fan-out stream with all messages.

A stream exists only while it has subscribers, and some minutes longer, so that a client that reconnects misses nothing:
messages without a subscriber are not written. The fan-out stream repeats every message for the API's processes, each of
which reads this one stream for all its clients. Ids are ordered over all streams, so one id says how far a client has
read.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID, uuid4

from redis.asyncio import Redis

from adapters import live_scripts

T = TypeVar("T")

FAN_OUT, LAST_ID = "live:fan-out", "live:last-id"
RETENTION_SECONDS = 360
"""Age at which messages are deleted: a client that reconnects within five minutes misses nothing, and its position may
be that of the last heartbeat, some seconds before the connection broke."""
_IDLE_SECONDS = 480
"""Lifetime of a stream without subscribers; each process extends it every minute for its clients."""
_MAX_LENGTH = 10_000
"""Messages of one stream: five minutes of 600 commands a minute (the rate limit), with three messages each."""
_FAN_OUT_SECONDS = 60
"""Retention of the fan-out stream. A process that lags further reads the streams of its clients instead."""
_BATCH = 500
"""Keys or messages in one pipeline, and messages in one read: some milliseconds, in which Redis answers nobody else."""

NOTHING = "0-0"
"""An id before every other."""


@dataclass(frozen=True)
class LiveMessage:
    """A message for the subscribers of one stream. A second one with the same `key` is not written."""

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

    @property
    def is_creation(self) -> bool:
        """Whether the stream begins with this entry, which is no message."""
        return not self.type


@dataclass(frozen=True)
class Backlog:
    """What streams have after the positions of a subscriber."""

    last: str
    """The last id of all streams: every message up to it is in `entries`, unless its stream is incomplete."""
    incomplete: frozenset[str]
    """Streams that may lack messages after their position."""
    entries: list[Entry]


def user_stream(tenant_id: str, user_id: UUID) -> str:
    """It names the user, so that an erasure finds it."""
    return f"{{{tenant_id}:{user_id}}}:live:user"


def property_stream(tenant_id: str, property_id: UUID) -> str:
    return f"{{{tenant_id}:{property_id}}}:live:property"


def tenant_of_stream(stream: str) -> str:
    """The tenant in the name of a stream."""
    return stream[1:].partition(":")[0]


def reset_message(stream: str) -> LiveMessage:
    """Says that messages of a stream may be lost, and everything shown should be read again."""
    return LiveMessage(stream, "reset", f"reset:{uuid4()}", b"{}")


def order_of(id: str) -> tuple[int, int]:
    """Sorts ids. Raises ValueError when it is none."""
    milliseconds, _, number = id.partition("-")
    return int(milliseconds), int(number)


class LiveStreams:
    """Writes and reads the streams; every method raises RedisError."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._publish = redis.register_script(live_scripts.PUBLISH)
        self._open = redis.register_script(live_scripts.OPEN)
        self._extend = redis.register_script(live_scripts.EXTEND)
        self._last = redis.register_script(live_scripts.LAST)
        self._read = redis.register_script(live_scripts.READ)

    async def publish(self, messages: Sequence[LiveMessage]) -> int:
        """Write messages to the streams that exist; returns how many were written."""
        written = 0
        for batch in _batches(messages):
            streams = list(dict.fromkeys(message.stream for message in batch))
            async with self._redis.pipeline(transaction=False) as pipe:
                for stream in streams:
                    pipe.exists(stream)
                open_ = {stream for stream, found in zip(streams, await pipe.execute(), strict=True) if found}
            if wanted := [message for message in batch if message.stream in open_]:
                async with self._redis.pipeline(transaction=False) as pipe:
                    for message in wanted:
                        await self._publish(
                            [message.stream, _since(message.stream), f"{message.stream}:seen", FAN_OUT, LAST_ID],
                            [RETENTION_SECONDS, _MAX_LENGTH, _FAN_OUT_SECONDS, message.key, message.type, message.data],
                            client=pipe,
                        )
                    written += sum(id is not None for id in await pipe.execute())
        return written

    async def open(self, positions: Mapping[str, str | None]) -> Backlog:
        """Create the streams that do not exist, and read each one's messages after its position.

        One without a position (None) has no backlog: its messages after `last` come by the fan-out. Up to 500 streams
        are read at the same moment, so that nothing is between the last ids of two of them.
        """
        last, incomplete, entries = NOTHING, set(), []
        for batch in _batches(list(positions.items())):
            async with self._redis.pipeline(transaction=True) as pipe:
                for stream, position in batch:
                    keys = [stream, _since(stream), FAN_OUT, LAST_ID]
                    await self._open(keys, [position or "", _IDLE_SECONDS, _FAN_OUT_SECONDS], client=pipe)
                    if position is not None:
                        pipe.execute_command("XRANGE", stream, f"({position}", "+", **{"NEVER_DECODE": True})
                answers = iter(await pipe.execute())
            for stream, position in batch:
                found, is_complete = next(answers)
                last = found.decode()
                if not is_complete:
                    incomplete.add(stream)
                entries += [] if position is None else [_entry(stream, *one) for one in next(answers)]
        return Backlog(last, frozenset(incomplete), sorted(entries, key=lambda entry: entry.order))

    async def last_id(self) -> str:
        """The last id, from which a process starts to read; a new one if Redis has none."""
        last: bytes = await self._last([FAN_OUT, LAST_ID])
        return last.decode()

    async def read(self, position: str) -> tuple[str | None, list[Entry]]:
        """The last id, and what the fan-out has after `position`, up to a batch. Without a last id, Redis was wiped."""
        last, found = await self._read([FAN_OUT, LAST_ID], [position, _BATCH])
        return last.decode() if last else None, [_entry("", *one) for one in found]

    async def extend(self, streams: Sequence[str]) -> set[str]:
        """Extend the lives of streams and delete what is old; returns those that do not exist."""
        lost = set()
        for batch in _batches(streams):
            async with self._redis.pipeline(transaction=False) as pipe:
                for stream in batch:
                    limits = [RETENTION_SECONDS, _MAX_LENGTH, _IDLE_SECONDS]
                    await self._extend([stream, _since(stream)], limits, client=pipe)
                answers = await pipe.execute()
            lost |= {stream for stream, exists in zip(batch, answers, strict=True) if not exists}
        return lost


class FanOut:
    """Waits for messages. Its Redis client has one connection, because a read that blocks occupies it."""

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


def _batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for n in range(0, len(items), _BATCH):
        yield items[n : n + _BATCH]


def _entry(stream: str, id: bytes, fields: list[bytes] | dict[bytes, bytes]) -> Entry:
    known = fields if isinstance(fields, dict) else dict(zip(fields[::2], fields[1::2], strict=True))
    return Entry(
        id=id.decode(),
        stream=known.get(b"stream", stream.encode()).decode(),
        type=known[b"type"].decode(),
        data=known[b"data"],
        previous=known.get(b"previous", b"").decode(),
    )
