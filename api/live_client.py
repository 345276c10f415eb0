"""One open stream: the messages that wait to be sent to its client."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Literal

import orjson

from adapters.live import NOTHING, order_of
from adapters.telemetry import LIVE_STREAMS_ENDED
from api.live_messages import Shown, Type
from api.tokens import Caller

_QUEUE = 1000
"""Messages that wait for a client; one that does not read for so long is dropped, and can go on where it was."""

Transport = Literal["sse", "websocket"]
Reason = Literal["session-closed", "token-expired", "restart", "slow", "too-many-messages", "gone"]


class Client:
    """One open stream."""

    def __init__(self, caller: Caller, address: str, transport: Transport, abort: Callable[[], None]) -> None:
        """`abort` closes the connection, whatever waits to be written."""
        self.caller = caller
        self.address = address
        self.transport: Transport = transport
        self.streams: set[str] = set()
        self.ended: Reason | None = None
        self.ended_at = float("inf")
        self.sent_at = time.monotonic()
        self._abort = abort
        self._queue: deque[Shown] = deque()
        self._room = _QUEUE
        self._last: tuple[int, int] | None = None
        """Up to where messages are queued; None until the stream has begun."""
        self._early: list[Shown] = []
        self._wake = asyncio.Event()

    def begin(self, position: str, messages: Iterable[Shown]) -> None:
        """Queue what the client missed, up to `position`, and what has come since."""
        self._queue.extend(messages)
        self._room = _QUEUE + len(self._queue)
        self._last = order_of(position)
        early, self._early = self._early, []
        for message in early:
            self.push(message)
        self._wake.set()

    def push(self, message: Shown) -> None:
        """Queue a message, unless it is already. A client whose queue is full is dropped."""
        if self._last is None:
            self._early.append(message)
        elif message.order > self._last and self.ended is None:
            if len(self._queue) >= self._room:
                self.end("slow", NOTHING)
                return
            self._last = message.order
            self._queue.append(message)
            self._wake.set()

    def tell(self, type: Type, position: str, data: bytes = b"{}") -> None:
        """Queue a message that has no place in the order; `position` is up to where the others are queued."""
        if self._last is not None and self.ended is None:
            position = max(position, f"{self._last[0]}-{self._last[1]}", key=order_of)
            self._queue.append(Shown(position, type, data))
            self._wake.set()

    def reset(self, position: str) -> None:
        """Say that messages up to `position` may be lost."""
        if self._last is not None:
            self._last = order_of(position)
            self.tell("reset", position)

    def sign_of_life(self, position: str) -> None:
        """Say that the client has everything up to `position`, so that it goes on from there."""
        if not self._queue:
            self.tell("alive", position)

    def end(self, reason: Reason, position: str) -> None:
        """End the stream after what is queued. A slow client is cut off at once."""
        if self.ended is None:
            if reason not in {"slow", "gone"}:
                self.tell("end", position, orjson.dumps({"reason": reason}))
            self.ended, self.ended_at = reason, time.monotonic()
            LIVE_STREAMS_ENDED.labels(reason).inc()
            self._wake.set()
        if reason == "slow":
            self._abort()

    def cut_off(self) -> None:
        """Close the connection of a client that does not take its last message."""
        self._abort()

    async def take(self) -> list[Shown]:
        """The queued messages, once there are any; none after the end."""
        while not self._queue and self.ended is None:
            self._wake.clear()
            await self._wake.wait()
        taken = list(self._queue)
        self._queue.clear()
        self._room = _QUEUE
        self.sent_at = time.monotonic()
        return taken
