"""Password hashing: fair queuing by address, refusals, eviction and cancellation."""

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

from api.errors import ApiError
from api.passwords import FairThreads, Passwords

CROWD, OTHER = "198.51.100.7", "203.0.113.9"
PER_ADDRESS, MAX_WAITING = 8, 50


class Queue:
    """A pool of one thread, which is busy until `release`, and the outcomes of waiting requests."""

    def __init__(self) -> None:
        self.threads = FairThreads(1, "test")
        self.served: list[str] = []
        self.refused: list[str] = []
        self.release = threading.Event()
        self._entered = threading.Event()
        self.waiters: dict[str, asyncio.Task[object]] = {}

    async def occupy(self) -> None:
        """Occupy the only thread until `release`."""

        def hold() -> bool:
            self._entered.set()
            return self.release.wait()

        self.waiters["occupant"] = asyncio.create_task(self.threads.run("occupant", hold))
        assert await asyncio.to_thread(self._entered.wait, 10)

    async def add(self, *names: str) -> None:
        """Add requests named `address/number` to the queue, in order."""
        for name in names:
            self.waiters[name] = asyncio.create_task(self._run(name))
            await asyncio.sleep(0)  # the task runs until it waits in the queue

    async def _run(self, name: str) -> None:
        try:
            await self.threads.run(name.partition("/")[0], self.served.append, name)
        except ApiError:
            self.refused.append(name)

    async def cancel(self, name: str) -> None:
        self.waiters[name].cancel()
        with pytest.raises(asyncio.CancelledError):
            await self.waiters[name]

    async def finish(self) -> None:
        self.release.set()
        async with asyncio.timeout(10):  # a request that is never served fails the test
            await asyncio.gather(*self.waiters.values(), return_exceptions=True)


@pytest.fixture
async def queue() -> AsyncIterator[Queue]:
    queue = Queue()
    yield queue
    await queue.finish()
    queue.threads.close()


def names(address: str, count: int) -> list[str]:
    return [f"{address}/{n}" for n in range(count)]


async def test_address_is_served_second_whatever_number_of_requests_another_address_sends(queue: Queue) -> None:
    await queue.occupy()
    await queue.add(*names(CROWD, 60), f"{OTHER}/0")
    await queue.finish()

    crowd = names(CROWD, 60)
    assert queue.served == [crowd[0], f"{OTHER}/0", *crowd[1:PER_ADDRESS]]
    assert queue.refused == crowd[PER_ADDRESS:]


async def test_addresses_are_served_round_robin_and_each_in_order(queue: Queue) -> None:
    await queue.occupy()
    await queue.add("a/0", "a/1", "a/2", "b/0", "b/1", "c/0")
    await queue.finish()

    assert queue.served == ["a/0", "b/0", "c/0", "a/1", "b/1", "a/2"]


async def test_address_that_returns_is_served_after_those_already_waiting(queue: Queue) -> None:
    await queue.occupy()
    await queue.add("a/0", "b/0")
    await queue.cancel("a/0")
    await queue.add("a/1")
    await queue.finish()

    assert queue.served == ["b/0", "a/1"]


async def test_at_the_limit_the_newest_request_of_the_longest_queue_is_evicted(queue: Queue) -> None:
    crowds = [name for n in range(7) for name in names(f"crowd{n}", PER_ADDRESS)][:MAX_WAITING]
    assert [len([name for name in crowds if name.startswith(f"crowd{n}/")]) for n in range(7)] == [8] * 6 + [2]
    await queue.occupy()
    await queue.add(*crowds)
    assert queue.refused == []

    await queue.add("other/0", "other/1")
    await queue.finish()

    # Of six queues of eight, first the last in round-robin order, then the one before it.
    assert queue.refused == ["crowd5/7", "crowd4/7"]
    assert queue.served[:8] == [*(f"crowd{n}/0" for n in range(7)), "other/0"]
    assert sorted(queue.served) == sorted({*crowds, "other/0", "other/1"} - set(queue.refused))


async def test_request_is_refused_unless_its_queue_stays_shorter_than_the_longest(queue: Queue) -> None:
    await queue.occupy()
    everybody = [f"address{n}/0" for n in range(MAX_WAITING)]
    await queue.add(*everybody)

    await queue.add("late/0")  # would evict from a queue of one for a queue of one
    await queue.add("address0/1")  # and for a queue of two
    assert queue.refused == ["late/0", "address0/1"]

    await queue.finish()
    assert queue.served == everybody


async def test_cancelled_request_frees_its_place_and_is_not_served(queue: Queue) -> None:
    await queue.occupy()
    crowd = names(CROWD, PER_ADDRESS)
    await queue.add(*crowd)
    await queue.cancel(crowd[3])
    await queue.add(f"{CROWD}/instead")
    await queue.finish()

    assert queue.served == [*crowd[:3], *crowd[4:], f"{CROWD}/instead"]
    assert queue.refused == []


@pytest.mark.parametrize(
    ("given_first", "order"), [(False, ["a/1", "b/0"]), (True, ["b/0", "a/1"])], ids=["just before", "just after"]
)
async def test_request_that_is_cancelled_while_a_thread_is_granted_is_skipped(
    queue: Queue, given_first: bool, order: list[str]
) -> None:
    """A thread is granted in the loop iteration in which the request is cancelled, before its task can run."""
    await queue.occupy()
    await queue.add("a/0", "b/0", "a/1")
    loop = asyncio.get_running_loop()

    def end_of_the_occupant() -> None:
        queue.release.set()
        queue.threads._pool.submit(lambda: None).result(10)  # so the end of the work before is scheduled on the loop

    def cancel_in_the_next_iteration() -> None:
        leave = queue.waiters["a/0"].cancel
        loop.call_soon(lambda: loop.call_soon(leave))

    steps = [cancel_in_the_next_iteration, end_of_the_occupant]
    for step in reversed(steps) if given_first else steps:
        step()  # without a pause, so that both happen in the same iterations
    await queue.finish()

    assert queue.waiters["a/0"].cancelled()
    assert queue.served == order
    assert await queue.threads.run("a", lambda: "still served") == "still served"


async def test_running_work_keeps_its_thread_when_its_request_is_cancelled(queue: Queue) -> None:
    await queue.occupy()
    await queue.cancel("occupant")
    await queue.add("a/0", "b/0", "a/1")
    await queue.cancel("a/0")  # while the thread is still busy
    await queue.finish()

    assert queue.served == ["a/1", "b/0"]


async def test_refusal_says_when_to_try_again(queue: Queue) -> None:
    await queue.occupy()
    await queue.add(*names(CROWD, PER_ADDRESS))

    with pytest.raises(ApiError) as refused:
        await queue.threads.run(CROWD, lambda: None)

    assert (refused.value.kind, refused.value.headers) == ("unavailable", {"Retry-After": "5"})
    assert "Retry-After" in refused.value.detail


async def test_password_matches_its_own_hash_only() -> None:
    passwords = Passwords()
    try:
        hashed = await passwords.hash("correct horse", address=OTHER, personal=(), field="password")

        assert hashed.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
        assert await passwords.matches("correct horse", hashed, address=OTHER)
        assert not await passwords.matches("wrong horse", hashed, address=OTHER)
        assert not await passwords.matches("nobody has this password", None, address=OTHER)
    finally:
        passwords.close()


async def test_new_password_is_checked_before_it_is_hashed() -> None:
    passwords = Passwords()
    try:
        with pytest.raises(ApiError) as refused:
            await passwords.hash("password123", address=OTHER, personal=["Ravi"], field="newPassword")
    finally:
        passwords.close()

    [fault] = refused.value.errors
    assert (refused.value.kind, fault.field) == ("weak-password", "newPassword")
    assert fault.reason == refused.value.detail
