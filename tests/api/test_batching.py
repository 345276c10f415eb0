"""Batched calls: who asks at about the same time is answered by one call."""

import asyncio
from collections.abc import Sequence

import pytest

from api.batching import BatchedCalls


class Doubling:
    """Doubles numbers, and keeps each batch; waits while it is held."""

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


async def test_each_is_answered_from_one_call() -> None:
    doubling = Doubling()
    calls = BatchedCalls(doubling, seconds=0.001, most=100, at_once=1)

    answers = await asyncio.gather(*(calls.ask(n) for n in range(50)))

    assert answers == [2 * n for n in range(50)]
    assert doubling.batches == [list(range(50))]


async def test_a_large_burst_is_split() -> None:
    doubling = Doubling()
    calls = BatchedCalls(doubling, seconds=0.001, most=20, at_once=2)

    answers = await asyncio.gather(*(calls.ask(n) for n in range(50)))

    assert answers == [2 * n for n in range(50)]
    assert [len(batch) for batch in doubling.batches] == [20, 20, 10]


async def test_what_arrives_while_calls_are_running_is_one_batch() -> None:
    doubling = Doubling()
    doubling.go_on.clear()
    calls = BatchedCalls(doubling, seconds=0, most=100, at_once=1)
    first = asyncio.create_task(calls.ask(1))
    while not doubling.batches:
        await asyncio.sleep(0)

    later = []
    for n in (2, 3, 4):
        later.append(asyncio.create_task(calls.ask(n)))
        await asyncio.sleep(0.002)  # longer than what is gathered for
    held = list(doubling.batches)
    doubling.go_on.set()
    answers = await asyncio.gather(first, *later)

    assert held == [[1]]
    assert doubling.batches == [[1], [2, 3, 4]]
    assert answers == [2, 4, 6, 8]


async def test_failure_reaches_everyone_of_the_batch_and_nobody_else() -> None:
    doubling = Doubling()
    calls = BatchedCalls(doubling, seconds=0, most=2, at_once=1)

    answers = await asyncio.gather(*(calls.ask(n) for n in (1, -1, 3)), return_exceptions=True)

    assert [type(answer) for answer in answers] == [ValueError, ValueError, int]


async def test_who_stops_waiting_before_the_call_has_asked_nothing() -> None:
    doubling = Doubling()
    calls = BatchedCalls(doubling, seconds=0.001, most=100, at_once=1)
    impatient, patient = asyncio.create_task(calls.ask(1)), asyncio.create_task(calls.ask(2))
    await asyncio.sleep(0)

    impatient.cancel()

    assert await patient == 4
    assert doubling.batches == [[2]]
    with pytest.raises(asyncio.CancelledError):
        await impatient


async def test_closing_waits_for_everything_that_was_asked() -> None:
    calls = BatchedCalls(Doubling(), seconds=60, most=2, at_once=1)
    asking = [asyncio.create_task(calls.ask(n)) for n in range(5)]
    await asyncio.sleep(0)

    await calls.close()
    await asyncio.sleep(0)

    assert [task.done() for task in asking] == [True] * 5


async def test_closing_when_everyone_has_stopped_waiting_asks_nothing() -> None:
    doubling = Doubling()
    calls = BatchedCalls(doubling, seconds=60, most=100, at_once=1)
    asking = [asyncio.create_task(calls.ask(n)) for n in range(3)]
    await asyncio.sleep(0)
    for task in asking:
        task.cancel()
    await asyncio.gather(*asking, return_exceptions=True)

    await calls.close()

    assert doubling.batches == []
