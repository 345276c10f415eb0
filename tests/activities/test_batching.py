"""Batching: the items of an interval are flushed together, also under load and at shutdown."""

import asyncio

from activities.batching import Batcher
from tests.platform import until


class Sink:
    """Collects flushed batches; a flush returns once `open` is set."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.open = asyncio.Event()

    async def flush(self, batch: list[int]) -> None:
        self.batches.append(batch)
        await self.open.wait()

    async def has_batches(self, count: int) -> bool:
        return len(self.batches) == count


async def test_items_of_an_interval_are_one_batch() -> None:
    sink = Sink()
    sink.open.set()
    batcher = Batcher(0.2, sink.flush)

    for n in range(3):
        batcher.add(n)
        await asyncio.sleep(0)

    await until(lambda: sink.has_batches(1))
    assert sink.batches == [[0, 1, 2]]


async def test_items_that_are_added_during_a_flush_have_an_interval_of_their_own() -> None:
    """Flushed at once, batches would be small under load: at 90 commands a second every third mail had its own."""
    sink = Sink()
    batcher = Batcher(0.2, sink.flush)
    batcher.add(0)
    await until(lambda: sink.has_batches(1))

    batcher.add(1)
    sink.open.set()
    await asyncio.sleep(0)  # the first flush returns
    await asyncio.sleep(0)
    batcher.add(2)

    await until(lambda: sink.has_batches(2))
    assert sink.batches == [[0], [1, 2]]


async def test_closing_flushes_without_waiting_for_the_interval() -> None:
    sink = Sink()
    sink.open.set()
    batcher = Batcher(3600, sink.flush)
    batcher.add(0, 1)

    async with asyncio.timeout(10):
        await batcher.close()

    assert sink.batches == [[0, 1]]
