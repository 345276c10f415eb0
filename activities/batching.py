"""Batching: what is added within a short interval is flushed as one batch, because each flush costs."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Generic, TypeVar

T = TypeVar("T")


class Batcher(Generic[T]):
    """Holds items in memory for `seconds`. A process that dies loses them, so reconcile must be able to find them."""

    def __init__(self, seconds: float, flush: Callable[[list[T]], Awaitable[None]]) -> None:
        """`flush` is called by one task at a time and handles its own failures."""
        self._seconds = seconds
        self._flush = flush
        self._batch: list[T] = []
        self._task: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    def add(self, *items: T) -> None:
        """Add items to the present batch."""
        self._batch += items
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while self._batch:
            # What was added during a flush has an interval of its own: under load there is always some.
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), self._seconds)
            batch, self._batch = self._batch, []
            await self._flush(batch)

    async def close(self) -> None:
        """Flush what is left at once."""
        self._closing.set()
        if self._task:
            await self._task
