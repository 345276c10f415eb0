"""Hashing passwords: whose turn it is, who is refused, and what becomes of whoever leaves."""

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

from api.errors import ApiError
from api.passwords import FairThreads, Passwords

CROWD, HONEST = "198.51.100.7", "203.0.113.9"
PER_ADDRESS, PLACES = 8, 50


class Queue:
    """One thread, kept busy until `release`, and what came of the work that waits behind it."""

    def __init__(self) -> None:
        self.threads = FairThreads(1, "test")
        self.served: list[str] = []
        self.refused: list[str] = []
        self.release = threading.Event()
        self._entered = threading.Event()
        self.waiters: dict[str, asyncio.Task[object]] = {}

    async def occupy(self) -> None:
        """Work that has begun in the only thread; it ends on `release`."""

        def hold() -> bool:
            self._entered.set()
            return self.release.wait()

        self.waiters["occupant"] = asyncio.create_task(self.threads.run("occupant", hold))
        assert await asyncio.to_thread(self._entered.wait, 10)

    async def ask(self, *names: str) -> None:
        """Let each `address/number` ask for the thread, one after the other."""
        for name in names:
            self.waiters[name] = asyncio.create_task(self._ask(name))
            await asyncio.sleep(0)  # the task runs until it waits

    async def _ask(self, name: str) -> None:
        try:
            await self.threads.run(name.partition("/")[0], self.served.append, name)
        except ApiError:
            self.refused.append(name)

    async def leave(self, name: str) -> None:
        self.waiters[name].cancel()
        with pytest.raises(asyncio.CancelledError):
            await self.waiters[name]

    async def finish(self) -> None:
        self.release.set()
        async with asyncio.timeout(10):  # a waiter who is forgotten fails the test instead of stopping it
            await asyncio.gather(*self.waiters.values(), return_exceptions=True)


@pytest.fixture
async def queue() -> AsyncIterator[Queue]:
    queue = Queue()
    yield queue
    await queue.finish()
    queue.threads.close()


def names(address: str, count: int) -> list[str]:
    return [f"{address}/{n}" for n in range(count)]


async def test_honest_person_is_served_second_whatever_another_address_sends(queue: Queue) -> None:
    await queue.occupy()
    await queue.ask(*names(CROWD, 60), f"{HONEST}/0")
    await queue.finish()

    crowd = names(CROWD, 60)
    assert queue.served == [crowd[0], f"{HONEST}/0", *crowd[1:PER_ADDRESS]]
    assert queue.refused == crowd[PER_ADDRESS:]


async def test_addresses_are_served_in_turn_and_each_in_its_own_order(queue: Queue) -> None:
    await queue.occupy()
    await queue.ask("a/0", "a/1", "a/2", "b/0", "b/1", "c/0")
    await queue.finish()

    assert queue.served == ["a/0", "b/0", "c/0", "a/1", "b/1", "a/2"]


async def test_address_that_comes_back_waits_for_those_who_were_there(queue: Queue) -> None:
    await queue.occupy()
    await queue.ask("a/0", "b/0")
    await queue.leave("a/0")
    await queue.ask("a/1")
    await queue.finish()

    assert queue.served == ["b/0", "a/1"]


async def test_when_all_places_are_taken_the_newest_of_the_longest_queue_gives_way(queue: Queue) -> None:
    crowds = [name for n in range(7) for name in names(f"crowd{n}", PER_ADDRESS)][:PLACES]
    assert [len([name for name in crowds if name.startswith(f"crowd{n}/")]) for n in range(7)] == [8] * 6 + [2]
    await queue.occupy()
    await queue.ask(*crowds)
    assert queue.refused == []

    await queue.ask("honest/0", "honest/1")
    await queue.finish()

    # Of six queues of eight, first the one that is served last, then the one before it.
    assert queue.refused == ["crowd5/7", "crowd4/7"]
    assert queue.served[:8] == [*(f"crowd{n}/0" for n in range(7)), "honest/0"]
    assert sorted(queue.served) == sorted({*crowds, "honest/0", "honest/1"} - set(queue.refused))


async def test_nobody_gives_way_to_an_address_that_would_wait_with_as_many(queue: Queue) -> None:
    await queue.occupy()
    everybody = [f"address{n}/0" for n in range(PLACES)]
    await queue.ask(*everybody)

    await queue.ask("late/0")  # one would give way to one
    await queue.ask("address0/1")  # and here one to two
    assert queue.refused == ["late/0", "address0/1"]

    await queue.finish()
    assert queue.served == everybody


async def test_whoever_leaves_the_queue_frees_their_place_and_is_not_served(queue: Queue) -> None:
    await queue.occupy()
    crowd = names(CROWD, PER_ADDRESS)
    await queue.ask(*crowd)
    await queue.leave(crowd[3])
    await queue.ask(f"{CROWD}/instead")
    await queue.finish()

    assert queue.served == [*crowd[:3], *crowd[4:], f"{CROWD}/instead"]
    assert queue.refused == []


@pytest.mark.parametrize(
    ("given_first", "order"), [(False, ["a/1", "b/0"]), (True, ["b/0", "a/1"])], ids=["just before", "just after"]
)
async def test_whoever_leaves_in_the_moment_of_their_turn_is_passed_over(
    queue: Queue, given_first: bool, order: list[str]
) -> None:
    """A thread is given in the turn of the loop in which its waiter is cancelled, before the waiter's task can run."""
    await queue.occupy()
    await queue.ask("a/0", "b/0", "a/1")
    loop = asyncio.get_running_loop()

    def end_of_the_occupant() -> None:
        queue.release.set()
        queue.threads._pool.submit(lambda: None).result(10)  # the only thread has told the loop of the work before

    def leave_in_the_next_turn() -> None:
        leave = queue.waiters["a/0"].cancel
        loop.call_soon(lambda: loop.call_soon(leave))

    steps = [leave_in_the_next_turn, end_of_the_occupant]
    for step in reversed(steps) if given_first else steps:
        step()  # without a pause, so that the loop runs both in the same turns
    await queue.finish()

    assert queue.waiters["a/0"].cancelled()
    assert queue.served == order
    assert await queue.threads.run("a", lambda: "still served") == "still served"


async def test_work_that_has_begun_keeps_its_thread_when_its_client_leaves(queue: Queue) -> None:
    await queue.occupy()
    await queue.leave("occupant")
    await queue.ask("a/0", "b/0", "a/1")
    await queue.leave("a/0")  # which can be done while the thread is not free
    await queue.finish()

    assert queue.served == ["a/1", "b/0"]


async def test_refusal_says_when_to_try_again(queue: Queue) -> None:
    await queue.occupy()
    await queue.ask(*names(CROWD, PER_ADDRESS))

    with pytest.raises(ApiError) as refused:
        await queue.threads.run(CROWD, lambda: None)

    assert (refused.value.kind, refused.value.headers) == ("unavailable", {"Retry-After": "5"})
    assert "Try again" in refused.value.detail


async def test_password_matches_its_own_hash_only() -> None:
    passwords = Passwords()
    try:
        hashed = await passwords.hash("correct horse", address=HONEST)

        assert hashed.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
        assert await passwords.matches("correct horse", hashed, address=HONEST)
        assert not await passwords.matches("wrong horse", hashed, address=HONEST)
        assert not await passwords.matches("nobody has this password", None, address=HONEST)
    finally:
        passwords.close()
