"""Passwords: argon2id in threads of their own, a few at a time."""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from api.errors import ApiError

T = TypeVar("T")

_WAITING = 50
"""Beyond so many waiting people the last would wait for seconds: better to say so at once."""


class Passwords:
    """Hashes and verifies off the event loop. Parameters are RFC 9106's second recommendation (64 MiB, 3 passes)."""

    def __init__(self) -> None:
        workers = max(1, (os.cpu_count() or 2) // 2)  # half of the cores stay with everybody who is signed in
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="argon2")
        self._places = asyncio.Semaphore(workers)
        self._waiting = 0
        self._hasher = PasswordHasher()
        self._nobody = self._hasher.hash("nobody has this password")

    async def hash(self, password: str) -> str:
        """The argon2id hash of a password. Raises ApiError unavailable when too many wait."""
        return await self._run(self._hasher.hash, password)

    async def matches(self, password: str, hashed: str | None) -> bool:
        """Whether the password has this hash; takes as long when there is none, so that names cannot be guessed."""
        verified = await self._run(self._verify, password, hashed or self._nobody)
        return verified and hashed is not None

    def _verify(self, password: str, hashed: str) -> bool:
        try:
            return self._hasher.verify(hashed, password)
        except (VerificationError, InvalidHashError):
            return False

    async def _run(self, work: Callable[..., T], *arguments: object) -> T:
        if self._waiting >= _WAITING:
            raise ApiError("unavailable", "Too many people are signing in.", headers={"Retry-After": "5"})
        self._waiting += 1
        try:
            async with self._places:
                return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
