"""Gathering: what comes within a moment goes together, also under load and at the end."""

import asyncio

from activities.gathering import Gathering

from tests.platform import until


class Door:
    """Takes what is handed over, as slowly as it is told to."""

    def __init__(self) -> None:
        self.taken: list[list[int]] = []
        self.open = asyncio.Event()

    async def take(self, things: list[int]) -> None:
        self.taken.append(things)
        await self.open.wait()

    async def has_taken(self, times: int) -> bool:
        return len(self.taken) == times


async def test_what_comes_within_a_moment_goes_together() -> None:
    door = Door()
    door.open.set()
    gathering = Gathering(0.2, door.take)

    for n in range(3):
        gathering.add(n)
        await asyncio.sleep(0)

    await until(lambda: door.has_taken(1))
    assert door.taken == [[0, 1, 2]]


async def test_what_comes_while_others_are_handed_over_has_a_moment_of_its_own() -> None:
    """Going at once, it would go one by one under load: at 90 commands a second every third mail by itself."""
    door = Door()
    gathering = Gathering(0.2, door.take)
    gathering.add(0)
    await until(lambda: door.has_taken(1))

    gathering.add(1)
    door.open.set()
    await asyncio.sleep(0)  # the first handing over returns
    await asyncio.sleep(0)
    gathering.add(2)

    await until(lambda: door.has_taken(2))
    assert door.taken == [[0], [1, 2]]


async def test_closing_waits_for_no_moment() -> None:
    door = Door()
    door.open.set()
    gathering = Gathering(3600, door.take)
    gathering.add(0, 1)

    async with asyncio.timeout(10):
        await gathering.close()

    assert door.taken == [[0, 1]]
