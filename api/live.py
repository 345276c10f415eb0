"""The streams of this process: one reader of Redis for all clients, each with a queue of messages to send."""

import asyncio
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Literal, TypeVar

from adapters import tasks
from adapters.live import NOTHING, Entry, FanOut, LiveStreams, Opened, order_of
from adapters.redis import RedisError
from adapters.telemetry import LIVE_MESSAGES, LIVE_STREAMS
from api.errors import ApiError, unavailable
from api.live_client import Client, Reason
from api.live_messages import Shown, shown
from api.revocations import Revocations
from api.tokens import Caller

log = logging.getLogger(__name__)

BLOCK_SECONDS = 1.0
"""The longest wait for a message, after which the reader looks whether Redis was wiped: a query a second."""
_CHECK_SECONDS = 0.2
"""Between two looks at who must end: with the time of reading closed sessions (0.4 s) it is less than a second."""
_ALIVE_SECONDS = 15.0
"""Proxies close connections that are silent for 30 s or more."""
_KEEP_SECONDS = 60.0
"""Between two extensions of the lives of streams in Redis, which are several times that."""
_FAREWELL_SECONDS = 1.0
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
    ) -> None:
        """`per_user` and `per_address` are the most open streams of a user and from an address."""
        self._streams = streams
        self._fan_out = fan_out
        self._revocations = revocations
        self._per_user, self._per_address = per_user, per_address
        self._clients: set[Client] = set()
        self._readers: defaultdict[str, set[Client]] = defaultdict(set)
        self._of_user: Counter[tuple[str, str]] = Counter()
        self._of_address: Counter[str] = Counter()
        self._position = NOTHING
        self._is_draining = self._fails = False
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [asyncio.create_task(loop()) for loop in (self._read_on, self._check_on, self._keep_on)]

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
        return (await self._opened([stream], None)).last

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

    async def begin(self, client: Client, own: str, others: Collection[str], position: str, *, resumed: bool) -> None:
        """Send an admitted client the messages after `position`: of its user's stream, and if it goes on from there, of
        the others too. Raises ApiError unavailable.
        """
        self._add(client, [own, *others])
        if others and not resumed:
            await self._opened(others, None)
        opened = await self._opened([own, *(others if resumed else ())], position)
        missed = [Shown(opened.last, "reset")] if opened.incomplete else []
        for entry in () if opened.incomplete else opened.entries:
            if show := _shown(entry):
                missed.append(show(client.caller))
        client.begin(opened.last, [*missed, Shown(opened.last, "ready")])

    async def look_at(self, client: Client, streams: Collection[str]) -> None:
        """Send a client the messages of more streams from now on. Raises ApiError unavailable."""
        self._add(client, streams)
        try:
            await self._opened(streams, None)
        except ApiError:
            self.look_away(client, streams)
            raise

    def look_away(self, client: Client, streams: Collection[str]) -> None:
        """End what `look_at` began."""
        for stream in streams:
            client.streams.discard(stream)
            self._readers[stream].discard(client)
            if not self._readers[stream]:
                del self._readers[stream]

    def remove(self, client: Client) -> None:
        """Forget a client whose connection is closed."""
        if client not in self._clients:
            return
        client.end("gone", self._position)
        self.look_away(client, list(client.streams))
        self._clients.remove(client)
        _count_down(self._of_user, _user(client.caller))
        _count_down(self._of_address, client.address)
        LIVE_STREAMS.labels(client.transport).dec()

    def end(self, client: Client, reason: Reason) -> None:
        """End a stream after what is queued."""
        client.end(reason, self._position)

    def tell(self, client: Client, message_type: Literal["subscribed", "error"], data: bytes) -> None:
        """Send one client an answer."""
        client.tell(message_type, self._position, data)

    def _add(self, client: Client, streams: Collection[str]) -> None:
        client.streams.update(streams)
        for stream in streams:
            self._readers[stream].add(client)

    async def _opened(self, streams: Collection[str], position: str | None) -> Opened:
        try:
            return await self._streams.open(streams, position)
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
            self._position = await self._streams.begin()
        while True:
            last, entries = await self._streams.read(self._position)
            if last is None or (not entries and last != self._position):
                await self._reopen(list(self._readers), last or await self._streams.begin())
            for entry in entries:
                if entry.previous != self._position:
                    # The fan-out has forgotten messages, or Redis was wiped.
                    await self._reopen(list(self._readers), last or await self._streams.begin())
                    break
                self._send(entry)
                self._position = entry.id
            if not entries or self._position == last:
                return

    async def _reopen(self, streams: Collection[str], last: str) -> None:
        """Send what the streams themselves have up to `last`, or reset their readers. Raises RedisError."""
        opened = await self._streams.open(streams, self._position)
        self._position = last
        lossy = {client for stream in opened.incomplete for client in self._readers.get(stream, ())}
        for entry in opened.entries:
            if entry.stream not in opened.incomplete and entry.order <= order_of(self._position):
                self._send(entry)
        for client in lossy:
            client.reset(self._position)

    def _send(self, entry: Entry) -> None:
        readers = self._readers.get(entry.stream)
        if readers and (show := _shown(entry)):
            LIVE_MESSAGES.labels(entry.type).inc(len(readers))
            for client in list(readers):
                client.push(show(client.caller))

    async def _check_on(self) -> None:
        while True:
            await asyncio.sleep(_CHECK_SECONDS)
            self.check()

    def check(self) -> None:
        """End the streams of closed sessions and expired tokens, and show the others signs of life."""
        now, wall = time.monotonic(), time.time()
        for client in list(self._clients):
            caller = client.caller
            if client.ended:
                if now - client.ended_at > _FAREWELL_SECONDS:
                    client.cut_off()
            elif (caller.tenant_id, caller.session_id) in self._revocations:
                client.end("session-closed", self._position)
            elif wall >= caller.expires:
                client.end("token-expired", self._position)
            elif now - client.sent_at >= _ALIVE_SECONDS:
                client.sign_of_life(self._position)

    async def _keep_on(self) -> None:
        while True:
            await asyncio.sleep(_KEEP_SECONDS)
            with suppress(RedisError):  # the reader says that Redis is unavailable
                await self.keep()

    async def keep(self) -> None:
        """Extend the lives of the streams in Redis; readers of lost ones are reset. Raises RedisError."""
        if lost := await self._streams.keep(list(self._readers)):
            opened = await self._streams.open(lost, None)
            for client in {client for stream in lost for client in self._readers.get(stream, ())}:
                client.reset(opened.last)


def _shown(entry: Entry) -> Callable[[Caller], Shown] | None:
    """A message as each caller may see it; None for one that this release cannot read."""
    if not entry.type:
        return None  # the beginning of a stream
    try:
        return shown(entry)
    except (LookupError, TypeError, ValueError) as error:
        log.error("live message %s of type %s cannot be read: %r", entry.id, entry.type, error)
        return None


def _count_down(open_streams: Counter[T], of: T) -> None:
    open_streams[of] -= 1
    if not open_streams[of]:
        del open_streams[of]


def _user(caller: Caller) -> tuple[str, str]:
    return caller.tenant_id, str(caller.user_id)
