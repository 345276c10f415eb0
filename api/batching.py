"""Batched calls: what requests ask at about the same time is answered by one call, because each call costs."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class BatchedCalls(Generic[T, R]):
    """Gathers items for `seconds`, or until there are `most`, and answers each from one call for all of them.

    While `at_once` calls are running, what arrives is gathered for the next: the busier, the larger the batches.
    """

    def __init__(
        self, call: Callable[[list[T]], Awaitable[Sequence[R]]], *, seconds: float, most: int, at_once: int
    ) -> None:
        """`call` answers in the order of its items; what it raises is raised to everyone who asked."""
        self._call = call
        self._seconds = seconds
        self._most = most
        self._at_once = at_once
        self._waiting: deque[tuple[T, asyncio.Future[R]]] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def ask(self, item: T) -> R:
        """The answer for one item. Whoever stops waiting before its call begins has asked nothing."""
        answer: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, answer))
        self._schedule()
        return await answer

    async def close(self) -> None:
        """Wait until everything that was asked is answered."""
        while self._waiting or self._running:
            self._start()
            # Nothing runs when everyone who waited has gone.
            if self._running:
                await asyncio.wait(self._running)

    def _schedule(self) -> None:
        if not self._waiting or len(self._running) >= self._at_once:
            return
        if len(self._waiting) >= self._most:
            self._start()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._seconds, self._start)

    def _start(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        batch: list[tuple[T, asyncio.Future[R]]] = []
        while self._waiting and len(batch) < self._most:
            item, answer = self._waiting.popleft()
            if not answer.done():
                batch.append((item, answer))
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
            results: Sequence[R] = await self._call([item for item, _ in batch])
        except Exception as error:
            # Whatever it is, everyone who waits must hear of it.
            for _, answer in batch:
                if not answer.done():
                    answer.set_exception(error)
            return
        for (_, answer), result in zip(batch, results, strict=True):
            if not answer.done():
                answer.set_result(result)
