"""The streams of this process: one reader of Redis for all clients, each with a queue of messages to send."""

import asyncio
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Literal, TypeVar

from adapters import tasks
from adapters.live import NOTHING, Backlog, Entry, FanOut, LiveStreams, order_of
from adapters.redis import RedisError
from adapters.telemetry import LIVE_MESSAGES, LIVE_STREAMS
from api.errors import ApiError, unavailable
from api.live_client import Client, Reason
from api.live_messages import ClientMessage, render
from api.revocations import Revocations
from api.shown_images import FileUrls
from api.tokens import Caller

log = logging.getLogger(__name__)

BLOCK_SECONDS = 1.0
"""The longest wait for a message, after which the reader checks whether Redis was wiped: a query a second."""
_CHECK_SECONDS = 0.2
"""Between two checks of who must end: with the time of reading closed sessions (0.4 s) it is less than a second."""
_HEARTBEAT_SECONDS = 15.0
"""Proxies close connections that are silent for 30 s or more."""
_EXTEND_SECONDS = 60.0
"""Between two extensions of the lives of streams in Redis, which are several times that."""
_CLOSE_SECONDS = 1.0
"""The time in which a client must take its last message."""
_PAUSE_SECONDS = 0.5
"""Between two attempts to read while Redis is unavailable."""
_DRAIN_SECONDS = 3.0
"""Longer than clients that do not take their last message have."""

T = TypeVar("T")


class Live:
    """The open streams of one process."""

    def __init__(
        self,
        streams: LiveStreams,
        fan_out: FanOut,
        revocations: Revocations,
        per_user: int,
        per_address: int,
        urls: Callable[[str], FileUrls],
    ) -> None:
        """`per_user` and `per_address` are the most open streams of a user and from an address.

        `urls` are those of a tenant's files.
        """
        self._urls = urls
        self._streams = streams
        self._fan_out = fan_out
        self._revocations = revocations
        self._per_user, self._per_address = per_user, per_address
        self._clients: set[Client] = set()
        self._subscribers: defaultdict[str, set[Client]] = defaultdict(set)
        self._opened_at: dict[str, str] = {}
        """The last id when this process opened each stream; one that is created later was lost in between."""
        self._of_user: Counter[tuple[str, str]] = Counter()
        self._of_address: Counter[str] = Counter()
        self._position = NOTHING
        self._is_draining = self._fails = False
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [asyncio.create_task(loop()) for loop in (self._read_on, self._check_on, self._extend_on)]

    async def close(self) -> None:
        await tasks.cancel(self._tasks)
        await self._fan_out.close()

    async def drain(self) -> None:
        """End every stream, and refuse new ones, because the process stops. Returns when all are closed."""
        self._is_draining = True
        for client in list(self._clients):
            client.end("restart", self._position)
        deadline = time.monotonic() + _DRAIN_SECONDS
        while self._clients and time.monotonic() < deadline:
            await asyncio.sleep(_CHECK_SECONDS)

    async def position(self, stream: str) -> str:
        """The position of a stream that is about to be opened. Raises ApiError unavailable."""
        return (await self._backlog({stream: None})).last

    def admit(self, client: Client) -> None:
        """Count an open stream until `remove`. Raises ApiError too-many-streams or unavailable."""
        caller = client.caller
        of_user, of_address = self._of_user[_user(caller)], self._of_address[client.address]
        if self._is_draining or self._position == NOTHING:
            raise unavailable("The stream")
        if of_user >= self._per_user:
            raise ApiError("too-many-streams", f"You have {of_user} open streams. Close one first.")
        if of_address >= self._per_address:
            detail = f"From your address {of_address} streams are open. Close one first."
            raise ApiError("too-many-streams", detail)
        self._clients.add(client)
        self._of_user[_user(caller)] += 1
        self._of_address[client.address] += 1
        LIVE_STREAMS.labels(client.transport).inc()

    async def begin(self, client: Client, own: str, listings: Iterable[str], position: str, *, resumed: bool) -> None:
        """Send an admitted client the messages after `position`: of its user's stream, and if it is `resumed`, of the
        listings too. Raises ApiError unavailable.
        """
        backlog = await self._open(client, {own: position, **dict.fromkeys(listings, position if resumed else None)})
        missed = [ClientMessage(backlog.last, "reset")] if backlog.incomplete else []
        for entry in () if backlog.incomplete else backlog.entries:
            if message_for := _rendered(entry, self._urls):
                missed.append(message_for(client.caller))
        client.begin(backlog.last, [*missed, ClientMessage(backlog.last, "ready")])

    async def subscribe(self, client: Client, streams: Iterable[str]) -> None:
        """Send a client the messages of more streams from now on. Raises ApiError unavailable."""
        await self._open(client, dict.fromkeys(streams))

    def unsubscribe(self, client: Client, streams: Iterable[str]) -> None:
        """End what `subscribe` began."""
        for stream in list(streams):
            client.forget(stream)
            self._subscribers[stream].discard(client)
            if not self._subscribers[stream]:
                del self._subscribers[stream]
                self._opened_at.pop(stream, None)

    def remove(self, client: Client) -> None:
        """Forget a client whose connection is closed."""
        if client not in self._clients:
            return
        client.end("disconnected", self._position)
        self.unsubscribe(client, client.streams)
        self._clients.remove(client)
        _count_down(self._of_user, _user(client.caller))
        _count_down(self._of_address, client.address)
        LIVE_STREAMS.labels(client.transport).dec()

    def end(self, client: Client, reason: Reason) -> None:
        """End a stream after what is queued."""
        client.end(reason, self._position)

    def reply(self, client: Client, message_type: Literal["subscribed", "error"], data: bytes) -> None:
        """Answer a message of a client."""
        if client.ended is None:
            client.send(message_type, self._position, data)

    async def _open(self, client: Client, positions: Mapping[str, str | None]) -> Backlog:
        """Subscribe a client to streams, and read what it missed. It is subscribed first and the streams are read at
        one moment: what comes earlier is in the backlog, and what comes later is pushed.
        """
        client.streams.update(positions)
        for stream in positions:
            self._subscribers[stream].add(client)
        try:
            backlog = await self._backlog(positions)
        except ApiError:
            self.unsubscribe(client, positions)
            raise
        self._have_opened(positions, backlog.last)
        return backlog

    def _have_opened(self, streams: Iterable[str], last: str) -> None:
        for stream in streams:
            if stream in self._subscribers:
                self._opened_at.setdefault(stream, last)

    async def _backlog(self, positions: Mapping[str, str | None]) -> Backlog:
        try:
            return await self._streams.open(positions)
        except RedisError as error:
            raise unavailable("The store of live messages") from error

    async def _read_on(self) -> None:
        while True:
            try:
                await self._read()
                await self._fan_out.wait(self._position, BLOCK_SECONDS)
            except Exception as error:
                # Of any kind: the next read may succeed, and a process that stopped reading would send nothing.
                if not self._fails:
                    log.warning("live messages cannot be read: %r", error)
                self._fails = True
                await asyncio.sleep(_PAUSE_SECONDS)
            else:
                if self._fails:
                    log.info("live messages are read again")
                self._fails = False

    async def _read(self) -> None:
        """Send what has come since the last time. Raises RedisError."""
        if self._position == NOTHING:
            self._position = await self._streams.last_id()
        while True:
            last, entries = await self._streams.read(self._position)
            if last is None or (not entries and last != self._position):
                await self._reopen(last or await self._streams.last_id())
            for entry in entries:
                if entry.previous != self._position:
                    # The fan-out has forgotten messages, or Redis was wiped.
                    await self._reopen(last or await self._streams.last_id())
                    break
                self._send(entry)
                self._position = entry.id
            if not entries or self._position == last:
                return

    async def _reopen(self, last: str) -> None:
        """Send what the streams themselves have up to `last`, or reset their subscribers. Raises RedisError."""
        at = self._position
        backlog = await self._streams.open(
            {stream: max(at, self._opened_at.get(stream, at), key=order_of) for stream in self._subscribers}
        )
        self._position = last
        for entry in backlog.entries:
            if entry.stream not in backlog.incomplete and entry.order <= order_of(last):
                self._send(entry)
        for stream in backlog.incomplete:
            self._opened_at.pop(stream, None)
        self._have_opened(backlog.incomplete, backlog.last)
        for client in {client for stream in backlog.incomplete for client in self._subscribers.get(stream, ())}:
            client.reset(last)

    def _send(self, entry: Entry) -> None:
        subscribers = list(self._subscribers.get(entry.stream, ()))
        if entry.is_creation:
            self._created(entry)
        elif subscribers and (message_for := _rendered(entry, self._urls)):
            LIVE_MESSAGES.labels(entry.type).inc(len(subscribers))
            for client in subscribers:
                client.push(message_for(client.caller))

    def _created(self, entry: Entry) -> None:
        """Reset the subscribers that a stream had before it was created: Redis had evicted it."""
        opened_at = self._opened_at.get(entry.stream)
        if opened_at and order_of(opened_at) < entry.order:
            self._opened_at[entry.stream] = entry.id
            for client in self._subscribers[entry.stream]:
                if client.position and client.position < entry.order:
                    client.reset(entry.id)

    async def _check_on(self) -> None:
        while True:
            await asyncio.sleep(_CHECK_SECONDS)
            self.check()

    def check(self) -> None:
        """End the streams of closed sessions and expired tokens, and send heartbeats on silent ones."""
        now, wall = time.monotonic(), time.time()
        for client in list(self._clients):
            caller = client.caller
            if client.ended:
                if now - client.ended_at > _CLOSE_SECONDS:
                    client.abort()
            elif (caller.tenant_id, caller.session_id) in self._revocations:
                client.end("session-closed", self._position)
            elif wall >= caller.expires:
                client.end("token-expired", self._position)
            elif now - client.sent_at >= _HEARTBEAT_SECONDS:
                client.heartbeat(self._position)

    async def _extend_on(self) -> None:
        while True:
            await asyncio.sleep(_EXTEND_SECONDS)
            with suppress(RedisError):  # the reader says that Redis is unavailable
                await self.extend()

    async def extend(self) -> None:
        """Extend the lives of the streams in Redis, and create those that it has evicted, by which every process learns
        that messages may be lost. Raises RedisError.
        """
        if lost := await self._streams.extend(list(self._opened_at)):
            await self._streams.open(dict.fromkeys(lost))


def _rendered(entry: Entry, urls: Callable[[str], FileUrls]) -> Callable[[Caller], ClientMessage] | None:
    """A message as each caller may see it; None for one that this release cannot read."""
    try:
        return None if entry.is_creation else render(entry, urls)
    except (LookupError, TypeError, ValueError) as error:
        log.error("live message %s of type %s cannot be read: %r", entry.id, entry.type, error)
        return None


def _count_down(open_streams: Counter[T], of: T) -> None:
    open_streams[of] -= 1
    if not open_streams[of]:
        del open_streams[of]


def _user(caller: Caller) -> tuple[str, str]:
    return caller.tenant_id, str(caller.user_id)
