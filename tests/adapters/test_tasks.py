import asyncio

import pytest

from adapters import tasks


async def test_loop_that_loses_its_first_cancellation_ends() -> None:
    lost = 0

    async def loop() -> None:
        nonlocal lost
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                if lost:
                    raise
                lost += 1

    looping = asyncio.create_task(loop())
    await asyncio.sleep(0)
    await tasks.cancel([looping])
    assert lost == 1
    assert looping.cancelled()


async def test_failure_of_a_cancelled_task_is_not_raised() -> None:
    async def fail() -> None:
        raise ValueError("failed")

    failing, waiting = asyncio.create_task(fail()), asyncio.create_task(asyncio.sleep(3600))
    await asyncio.sleep(0)
    await tasks.cancel([failing, waiting])
    assert waiting.cancelled()
    with pytest.raises(ValueError, match="failed"):
        failing.result()


async def test_no_tasks_are_nothing_to_wait_for() -> None:
    await tasks.cancel([])
