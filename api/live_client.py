"""One open stream: the messages that wait to be sent to its client."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Literal

import orjson

from adapters.live import NOTHING, order_of
from adapters.telemetry import LIVE_STREAMS_ENDED
from api.live_messages import ClientMessage, Type
from api.tokens import Caller

_QUEUE = 1000
"""Messages that wait for a client; one that does not read for so long is dropped, and can go on where it was."""

Transport = Literal["sse", "websocket"]
Reason = Literal["session-closed", "token-expired", "restart", "slow", "too-many-messages", "disconnected"]


class Client:
    """One open stream."""

    def __init__(self, caller: Caller, address: str, transport: Transport, abort: Callable[[], None]) -> None:
        """`abort` closes the connection, whatever waits to be written."""
        self.caller = caller
        self.address = address
        self.transport: Transport = transport
        self.streams: set[str] = set()
        self.abort = abort
        self.ended: Reason | None = None
        self.ended_at = float("inf")
        self.sent_at = time.monotonic()
        self.position: tuple[int, int] | None = None
        """Up to where messages are queued; None until the stream has begun."""
        self._hidden: set[str] = set()
        """The streams of watched listings that the client was told it may no longer see."""
        self._deferred: list[Callable[[], None]] = []
        """What is to be queued after the backlog."""
        self._queue: deque[ClientMessage] = deque()
        self._capacity = _QUEUE
        self._wake = asyncio.Event()

    def begin(self, position: str, backlog: Iterable[ClientMessage]) -> None:
        """Queue what the client missed, up to `position`, and what has come since."""
        self._queue.extend(message for message in backlog if self._is_wanted(message))
        self._capacity = _QUEUE + len(self._queue)
        self.position = order_of(position)
        deferred, self._deferred = self._deferred, []
        for call in deferred:
            call()
        self._wake.set()

    def push(self, message: ClientMessage) -> None:
        """Queue a message, unless it is already. A client whose queue is full is dropped."""
        if self.position is None:
            self._deferred.append(partial(self.push, message))
        elif message.order > self.position and self.ended is None:
            if len(self._queue) >= self._capacity:
                self.end("slow", NOTHING)
                return
            self.position = message.order
            if self._is_wanted(message):
                self._queue.append(message)
                self._wake.set()

    def forget(self, stream: str) -> None:
        """End the subscription to a stream."""
        self.streams.discard(stream)
        self._hidden.discard(stream)

    def _is_wanted(self, message: ClientMessage) -> bool:
        """False for changes of a listing after the one that has hidden it, until it is public again."""
        if message.type == "reset":
            self._hidden.clear()
        if not message.is_hidden:
            self._hidden.discard(message.stream)
            return True
        was_hidden = message.stream in self._hidden
        self._hidden.add(message.stream)
        return not was_hidden

    def reset(self, position: str) -> None:
        """Say that messages up to `position` may be lost."""
        if self.position is None:
            self._deferred.append(partial(self.reset, position))
        elif self.ended is None:
            self.position = order_of(position)
            self._hidden.clear()
            self.send("reset", position)

    def heartbeat(self, position: str) -> None:
        """Say that the client has everything up to `position`, so that it goes on from there."""
        if self.position is not None and not self._queue and self.ended is None:
            self.send("heartbeat", position)

    def end(self, reason: Reason, position: str) -> None:
        """End the stream after what is queued. A slow client is cut off at once."""
        if self.ended is None:
            if reason not in {"slow", "disconnected"}:
                self.send("end", position, orjson.dumps({"reason": reason}))
            self.ended, self.ended_at = reason, time.monotonic()
            LIVE_STREAMS_ENDED.labels(reason).inc()
            self._wake.set()
        if reason == "slow":
            self.abort()

    def send(self, type: Type, position: str, data: bytes = b"{}") -> None:
        """Queue a message that has no place in the order; `position` is up to where the others are queued."""
        if self.position is None:
            self._deferred.append(partial(self.send, type, position, data))
            return
        at = max(order_of(position), self.position)
        self._queue.append(ClientMessage(f"{at[0]}-{at[1]}", type, data))
        self._wake.set()

    async def take(self) -> list[ClientMessage]:
        """The queued messages, once there are any; none after the end."""
        while not self._queue and self.ended is None:
            self._wake.clear()
            await self._wake.wait()
        taken = list(self._queue)
        self._queue.clear()
        self._capacity = _QUEUE
        self.sent_at = time.monotonic()
        return taken
