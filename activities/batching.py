"""Batching: items added within a short interval are flushed together, which costs less than one flush for each."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Generic, TypeVar

T = TypeVar("T")


class Batcher(Generic[T]):
    """Holds items in memory for `seconds`. A process that dies loses them: reconcile must find them."""

    def __init__(self, seconds: float, flush: Callable[[list[T]], Awaitable[None]]) -> None:
        """`flush` never runs twice at the same time, and must not raise."""
        self._seconds = seconds
        self._flush = flush
        self._batch: list[T] = []
        self._task: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    def add(self, *items: T) -> None:
        """Add items to the current batch."""
        self._batch += items
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while self._batch:
            # Items added during a flush wait for a full interval too; without it, batches would be small under load.
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), self._seconds)
            batch, self._batch = self._batch, []
            await self._flush(batch)

    async def close(self) -> None:
        """Flush the current batch without waiting for its interval."""
        self._closing.set()
        if self._task:
            await self._task
