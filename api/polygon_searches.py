"""How many searches in a polygon run at once in one process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from api.errors import ApiError

_AT_ONCE = 2
"""Each may take a core of the engine for seconds, and a connection of the pool: the others are for everybody else."""
_WAIT_SECONDS = 2.0
"""As long as for a connection. A drawn ward takes some 20 ms, so that many wait for each other in that time."""


class PolygonSearches:
    """The places for searches in a polygon."""

    def __init__(self, at_once: int = _AT_ONCE, wait_seconds: float = _WAIT_SECONDS) -> None:
        self._free = asyncio.Semaphore(at_once)
        self._wait_seconds = wait_seconds

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Waits for a place, and keeps it. Raises ApiError unavailable."""
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._free.acquire()
        except TimeoutError as error:
            raise ApiError(
                "unavailable",
                "Too many searches in polygons are running. Send the request again after Retry-After seconds, or ask "
                "for a box.",
                headers={"Retry-After": "2"},
            ) from error
        try:
            yield
        finally:
            self._free.release()
