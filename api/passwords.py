"""Password hashing with argon2id in a thread pool, with fair queuing by client address."""

import asyncio
import os
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from api.errors import ApiError
from api.strength import check_strength

T = TypeVar("T")

_MAX_WAITING = 50
"""With more, the last one would wait for seconds."""
_MAX_WAITING_PER_ADDRESS = 8
"""Enough for an office behind one address; the last one waits about a second (0.13 s for each hash)."""
_MAX_ATTEMPTS_PER_ADDRESS = 2 * _MAX_WAITING_PER_ADDRESS
"""Those that wait, and those whose limits and account are being read."""


class FairThreads:
    """A thread pool with one queue for each client address; the queues are served round-robin.

    A client with many requests delays only its own. When the total is at its limit, a new request evicts the newest of
    the longest queue, if its own queue stays shorter than that one; otherwise it is refused.
    """

    def __init__(self, threads: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._idle = threads
        self._queues: OrderedDict[str, deque[asyncio.Future[bool]]] = OrderedDict()
        """Waiting requests by address, without empty queues; a result of True grants a thread, False means evicted.

        The first address is served next. All queues are empty while a thread is idle.
        """

    async def run(self, address: str, work: Callable[..., T], *arguments: object) -> T:
        """Run `work` in a thread; returns its result. Raises ApiError unavailable when too many requests wait.

        Cancellation removes a waiting request from its queue. Running work cannot be cancelled and keeps its thread.
        """
        if self._idle:
            self._idle -= 1
        else:
            await self._wait(address)
        running = asyncio.get_running_loop().run_in_executor(self._pool, work, *arguments)
        running.add_done_callback(lambda _: self._next())
        return await asyncio.shield(running)

    async def _wait(self, address: str) -> None:
        self._admit(address)
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._queues.setdefault(address, deque()).append(turn)
        try:
            if not await turn:
                raise _busy()
        except asyncio.CancelledError:
            if turn.cancelled():
                self._remove(address, turn)
            elif turn.result():
                self._next()  # a thread was granted in the same iteration of the loop: pass it on
            raise

    def _admit(self, address: str) -> None:
        """Evict a request if the total is at its limit. Raises ApiError unavailable if the new request is refused."""
        own = len(self._queues.get(address, ()))
        if own >= _MAX_WAITING_PER_ADDRESS:
            raise _busy()
        if sum(map(len, self._queues.values())) < _MAX_WAITING:
            return
        # Of several longest queues, the last in round-robin order.
        longest = max(reversed(self._queues.values()), key=len)
        if len(longest) <= own + 1:  # without + 1, two addresses could evict each other's requests endlessly
            raise _busy()
        newest = longest.pop()
        if not newest.done():
            newest.set_result(False)

    def _remove(self, address: str, turn: asyncio.Future[bool]) -> None:
        queue = self._queues.get(address, deque())
        if turn in queue:
            queue.remove(turn)
            if not queue:
                del self._queues[address]

    def _next(self) -> None:
        """Grant a free thread to the oldest request of the next address."""
        while self._queues:
            address, queue = next(iter(self._queues.items()))
            turn = queue.popleft()
            if not queue:
                del self._queues[address]
            if turn.done():
                continue  # cancelled, and its task has not run yet
            if queue:
                self._queues.move_to_end(address)
            turn.set_result(True)
            return
        self._idle += 1

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


class Passwords:
    """Hashes and verifies passwords in threads. Parameters: RFC 9106's second recommendation (64 MiB, 3 passes)."""

    def __init__(self) -> None:
        # Half of the cores are left for other requests.
        self.threads = FairThreads(max(1, (os.cpu_count() or 2) // 2), "argon2")
        self._hasher = PasswordHasher()
        self._dummy_hash = self._hasher.hash("nobody has this password")
        self._attempts: Counter[str] = Counter()
        """Attempts in progress, by address."""

    @contextmanager
    def attempt(self, address: str) -> Iterator[None]:
        """Surrounds all that an attempt to sign in does, so that a flood from one address is refused without any I/O.

        Otherwise its attempts would take the connections to Redis and Postgres from others, before they wait for a
        thread. Raises ApiError unavailable when too many of the address are in progress.
        """
        if self._attempts[address] >= _MAX_ATTEMPTS_PER_ADDRESS:
            raise _busy()
        self._attempts[address] += 1
        try:
            yield
        finally:
            self._attempts[address] -= 1
            if not self._attempts[address]:
                del self._attempts[address]

    async def hash(self, password: str, *, address: str, personal: Iterable[str | None], field: str) -> str:
        """The argon2id hash of a new password.

        `personal` is what an attacker knows of its owner. Raises ApiError weak-password about the request's `field`, or
        unavailable when too many requests wait.
        """
        return await self.threads.run(address, self._checked_hash, password, personal, field)

    def _checked_hash(self, password: str, personal: Iterable[str | None], field: str) -> str:
        check_strength(password, personal, field)
        return self._hasher.hash(password)

    async def matches(self, password: str, hashed: str | None, *, address: str) -> bool:
        """Whether the password has this hash. Raises ApiError unavailable when too many requests wait.

        Without a hash it verifies a dummy, so that the response time does not reveal whether an account exists.
        """
        verified = await self.threads.run(address, self._verify, password, hashed or self._dummy_hash)
        return verified and hashed is not None

    def _verify(self, password: str, hashed: str) -> bool:
        try:
            return self._hasher.verify(hashed, password)
        except (VerificationError, InvalidHashError):
            return False

    def close(self) -> None:
        self.threads.close()


def _busy() -> ApiError:
    detail = "Too many sign-ins and registrations are waiting. Send the request again after Retry-After seconds."
    return ApiError("unavailable", detail, headers={"Retry-After": "5"})
