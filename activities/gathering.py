"""Gathering: what comes within a moment is handed over together, because each handing over costs."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Generic, TypeVar

T = TypeVar("T")


class Gathering(Generic[T]):
    """Holds things in memory for a moment. A process that dies loses them, so reconcile must be able to find them."""

    def __init__(self, seconds: float, hand_over: Callable[[list[T]], Awaitable[None]]) -> None:
        """`hand_over` is called by one task at a time and answers for its own failures."""
        self._seconds = seconds
        self._hand_over = hand_over
        self._gathered: list[T] = []
        self._task: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    def add(self, *things: T) -> None:
        self._gathered += things
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._until_none_is_left())

    async def _until_none_is_left(self) -> None:
        while self._gathered:
            # What came while others were handed over has a moment of its own: under load there is always some.
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), self._seconds)
            gathered, self._gathered = self._gathered, []
            await self._hand_over(gathered)

    async def close(self) -> None:
        """Hand over at once what is gathered."""
        self._closing.set()
        if self._task:
            await self._task
