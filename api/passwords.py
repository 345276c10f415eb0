"""Passwords: argon2id in threads of their own, which clients share fairly by address."""

import asyncio
import os
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from api.errors import ApiError

T = TypeVar("T")

_MAX_WAITING = 50
"""Beyond so many the last would wait for seconds, so it is refused at once."""
_MAX_WAITING_PER_ADDRESS = 8
"""An office whose people sign in together; the last waits about a second when nobody else does (0.13 s for each)."""


class FairThreads:
    """A thread pool with one queue for each client address; the queues are served in turn (round-robin).

    Whoever sends many requests waits behind their own. When every place is taken, the newest waiter of the longest
    queue gives way to a newcomer whose own queue would still be shorter than that one.
    """

    def __init__(self, threads: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._idle = threads
        self._queues: OrderedDict[str, deque[asyncio.Future[bool]]] = OrderedDict()
        """Waiters by address, none of the queues empty; True means a thread is free for you, False that you gave way.

        The first address is served next. Nobody waits while a thread is idle.
        """

    async def run(self, address: str, work: Callable[..., T], *arguments: object) -> T:
        """What `work` returns from a thread. Raises ApiError unavailable when too many wait.

        Whoever is cancelled leaves the queue. Work that has begun cannot be stopped: its thread is free when it ends.
        """
        if self._idle:
            self._idle -= 1
        else:
            await self._wait(address)
        running = asyncio.get_running_loop().run_in_executor(self._pool, work, *arguments)
        running.add_done_callback(lambda _: self._next())
        return await asyncio.shield(running)

    async def _wait(self, address: str) -> None:
        self._make_room(address)
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._queues.setdefault(address, deque()).append(turn)
        try:
            if not await turn:
                raise _busy()
        except asyncio.CancelledError:
            if turn.cancelled():
                self._leave(address, turn)
            elif turn.result():
                self._next()  # a thread was given in the same moment, so the next waiter gets it
            raise

    def _make_room(self, address: str) -> None:
        """Raises ApiError unavailable for a newcomer who may neither take a free place nor somebody's."""
        own = len(self._queues.get(address, ()))
        if own >= _MAX_WAITING_PER_ADDRESS:
            raise _busy()
        if sum(map(len, self._queues.values())) < _MAX_WAITING:
            return
        # Of several longest queues, the one that is served last.
        longest = max(reversed(self._queues.values()), key=len)
        if len(longest) <= own + 1:  # else the two would be as unequal as before, and take each other's place for ever
            raise _busy()
        newest = longest.pop()
        if not newest.done():
            newest.set_result(False)

    def _leave(self, address: str, turn: asyncio.Future[bool]) -> None:
        queue = self._queues.get(address, deque())
        if turn in queue:
            queue.remove(turn)
            if not queue:
                del self._queues[address]

    def _next(self) -> None:
        """Give a free thread to the oldest waiter of the address whose turn it is."""
        while self._queues:
            address, queue = next(iter(self._queues.items()))
            turn = queue.popleft()
            if not queue:
                del self._queues[address]
            if turn.done():
                continue  # cancelled, and its task has not run since
            if queue:
                self._queues.move_to_end(address)
            turn.set_result(True)
            return
        self._idle += 1

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


class Passwords:
    """Hashes and verifies off the event loop. Parameters are RFC 9106's second recommendation (64 MiB, 3 passes)."""

    def __init__(self) -> None:
        # Half of the cores stay with everybody who is signed in.
        self.threads = FairThreads(max(1, (os.cpu_count() or 2) // 2), "argon2")
        self._hasher = PasswordHasher()
        self._nobody = self._hasher.hash("nobody has this password")

    async def hash(self, password: str, *, address: str) -> str:
        """The argon2id hash of a password. Raises ApiError unavailable when too many wait."""
        return await self.threads.run(address, self._hasher.hash, password)

    async def matches(self, password: str, hashed: str | None, *, address: str) -> bool:
        """Whether the password has this hash. Raises ApiError unavailable when too many wait.

        Takes as long when there is no hash, so that names cannot be guessed.
        """
        verified = await self.threads.run(address, self._verify, password, hashed or self._nobody)
        return verified and hashed is not None

    def _verify(self, password: str, hashed: str) -> bool:
        try:
            return self._hasher.verify(hashed, password)
        except (VerificationError, InvalidHashError):
            return False

    def close(self) -> None:
        self.threads.close()


def _busy() -> ApiError:
    detail = "Too many sign-ins and registrations are waiting. Try again after Retry-After seconds."
    return ApiError("unavailable", detail, headers={"Retry-After": "5"})
