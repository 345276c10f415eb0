"""Batched calls: concurrent calls are combined into one."""

import asyncio
from collections.abc import Sequence

import pytest

from api.batching import BatchedCalls


class Doubling:
    """Doubles numbers and records each batch; returns once `go_on` is set."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def __call__(self, numbers: list[int]) -> Sequence[int]:
        self.batches.append(numbers)
        await self.go_on.wait()
        if -1 in numbers:
            raise ValueError("no negative numbers")
        return [2 * number for number in numbers]


async def test_concurrent_calls_are_one_batch() -> None:
    doubling = Doubling()
    calls = BatchedCalls(doubling, seconds=0.001, max_size=100, max_concurrent=1)

    answers = await asyncio.gather(*(calls.call(n) for n in range(50)))

    assert answers == [2 * n for n in range(50)]
    assert doubling.batches == [list(range(50))]


async def test_a_large_burst_is_split() -> None:
    doubling = Doubling()
    calls = BatchedCalls(doubling, seconds=0.001, max_size=20, max_concurrent=2)

    answers = await asyncio.gather(*(calls.call(n) for n in range(50)))

    assert answers == [2 * n for n in range(50)]
    assert [len(batch) for batch in doubling.batches] == [20, 20, 10]


async def test_items_added_while_a_batch_is_running_are_one_batch() -> None:
    doubling = Doubling()
    doubling.go_on.clear()
    calls = BatchedCalls(doubling, seconds=0, max_size=100, max_concurrent=1)
    first = asyncio.create_task(calls.call(1))
    while not doubling.batches:
        await asyncio.sleep(0)

    later = []
    for n in (2, 3, 4):
        later.append(asyncio.create_task(calls.call(n)))
        await asyncio.sleep(0.002)  # longer than `seconds`
    held = list(doubling.batches)
    doubling.go_on.set()
    answers = await asyncio.gather(first, *later)

    assert held == [[1]]
    assert doubling.batches == [[1], [2, 3, 4]]
    assert answers == [2, 4, 6, 8]


async def test_exception_is_raised_to_the_callers_of_its_batch_only() -> None:
    doubling = Doubling()
    calls = BatchedCalls(doubling, seconds=0, max_size=2, max_concurrent=1)

    answers = await asyncio.gather(*(calls.call(n) for n in (1, -1, 3)), return_exceptions=True)

    assert [type(answer) for answer in answers] == [ValueError, ValueError, int]


async def test_item_cancelled_before_its_batch_starts_is_left_out() -> None:
    doubling = Doubling()
    calls = BatchedCalls(doubling, seconds=0.001, max_size=100, max_concurrent=1)
    cancelled, kept = asyncio.create_task(calls.call(1)), asyncio.create_task(calls.call(2))
    await asyncio.sleep(0)

    cancelled.cancel()

    assert await kept == 4
    assert doubling.batches == [[2]]
    with pytest.raises(asyncio.CancelledError):
        await cancelled


async def test_closing_waits_for_pending_calls() -> None:
    calls = BatchedCalls(Doubling(), seconds=60, max_size=2, max_concurrent=1)
    pending = [asyncio.create_task(calls.call(n)) for n in range(5)]
    await asyncio.sleep(0)

    await calls.close()
    await asyncio.sleep(0)

    assert [task.done() for task in pending] == [True] * 5


async def test_closing_when_everyone_has_stopped_waiting_asks_nothing() -> None:
    doubling = Doubling()
    calls = BatchedCalls(doubling, seconds=60, max_size=100, max_concurrent=1)
    asking = [asyncio.create_task(calls.call(n)) for n in range(3)]
    await asyncio.sleep(0)
    for task in asking:
        task.cancel()
    await asyncio.gather(*asking, return_exceptions=True)

    await calls.close()

    assert doubling.batches == []
