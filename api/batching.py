"""Batched calls: concurrent calls of several requests are combined into one, as a DataLoader does."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class BatchedCalls(Generic[T, R]):
    """Collects items for `seconds`, or until there are `max_size`, and makes one call for all of them.

    While `max_concurrent` calls are running, items wait for the next one, so that batches grow with the load.
    """

    def __init__(
        self,
        batch_call: Callable[[list[T]], Awaitable[Sequence[R]]],
        *,
        seconds: float,
        max_size: int,
        max_concurrent: int,
    ) -> None:
        """`batch_call` returns results in the order of its items; an exception of it is raised to every caller."""
        self._batch_call = batch_call
        self._seconds = seconds
        self._max_size = max_size
        self._max_concurrent = max_concurrent
        self._waiting: deque[tuple[T, asyncio.Future[R]]] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def call(self, item: T) -> R:
        """The result for one item. An item that is cancelled before its batch starts is left out of it."""
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        self._schedule()
        return await future

    async def close(self) -> None:
        """Wait until every call has its result."""
        while self._waiting or self._running:
            self._start()
            # Nothing runs when everyone who waited has gone.
            if self._running:
                await asyncio.wait(self._running)

    def _schedule(self) -> None:
        if not self._waiting or len(self._running) >= self._max_concurrent:
            return
        if len(self._waiting) >= self._max_size:
            self._start()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._seconds, self._start)

    def _start(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        batch: list[tuple[T, asyncio.Future[R]]] = []
        while self._waiting and len(batch) < self._max_size:
            item, future = self._waiting.popleft()
            if not future.done():
                batch.append((item, future))
        if batch:
            task = asyncio.create_task(self._run(batch))
            self._running.add(task)
            task.add_done_callback(self._ended)
        self._schedule()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._schedule()

    async def _run(self, batch: list[tuple[T, asyncio.Future[R]]]) -> None:
        try:
            results: Sequence[R] = await self._batch_call([item for item, _ in batch])
        except Exception as error:
            # Any exception is passed on to the callers.
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), result in zip(batch, results, strict=True):
            if not future.done():
                future.set_result(result)
