"""The closed sessions, whose access tokens are refused: every API process reads them from Postgres again and again.

Looking a session up for every request would make each read depend on Postgres, and a message through Redis or Kafka may
be lost.
"""

import asyncio
import logging
import time
from datetime import timedelta
from uuid import UUID

from adapters import tasks
from adapters.postgres import Database
from adapters.revocations import closed_sessions
from api.tokens import LIFETIME_SECONDS

log = logging.getLogger(__name__)

_READ_EVERY_SECONDS = 0.4
"""A closed session is refused within a second; with a query of a millisecond this is a light load."""
_READ_SECONDS = 2.0
"""Longer than a read takes under load; then the connection is given up."""
_WINDOW = timedelta(seconds=LIFETIME_SECONDS + 60)
"""Older sessions have no valid access token; a minute more, because clocks differ and transactions take time."""
_WHOLE_EVERY_SECONDS = 60.0
"""Between two reads of the whole window, which find what was committed late and forget what is older. Those between
them read less, which matters when many thousands sign out."""
_OVERLAP_SECONDS = 30.0
"""`revoked_at` is the time at which its transaction began, so it may become visible that much later."""


class Revocations:
    """The closed sessions of the last quarter of an hour, as this process knows them.

    While Postgres is unavailable it goes on with what it knows.
    """

    def __init__(self, database: Database) -> None:
        """`database` reads every tenant, and is closed with this object."""
        self._database = database
        self._closed: set[tuple[str, UUID]] = set()
        self._read_at = self._whole_at = float("-inf")
        self._fails = False
        self._reading: asyncio.Task[None] | None = None

    def __contains__(self, session: tuple[str, UUID]) -> bool:
        """Whether the session of this tenant and id is closed."""
        return session in self._closed

    @property
    def is_current(self) -> bool:
        """Whether the closed sessions were read, and the last read has succeeded."""
        return self._whole_at > float("-inf") and not self._fails

    def start(self) -> None:
        """Read every 0.4 s until `close`."""
        self._reading = asyncio.create_task(self._read_on())

    async def close(self) -> None:
        if self._reading:
            await tasks.cancel([self._reading])
        await self._database.close()

    async def read(self) -> None:
        """Read the sessions that were closed since the last time. A failure is logged when it is the first in a row."""
        began = time.monotonic()
        is_whole = began - self._whole_at >= _WHOLE_EVERY_SECONDS
        within = _WINDOW if is_whole else timedelta(seconds=began - self._read_at + _OVERLAP_SECONDS)
        try:
            async with asyncio.timeout(_READ_SECONDS), self._database.statements() as connection:
                found = await closed_sessions(connection, within)
        except Exception as error:
            # Of any kind: the next read may succeed, and a process that stopped reading would accept closed sessions.
            if not self._fails:
                log.warning("closed sessions cannot be read; those that are known stay refused: %r", error)
            self._fails = True
            return
        if self._fails:
            log.info("closed sessions are read again")
        self._closed = found if is_whole else self._closed | found
        self._fails, self._read_at = False, began
        if is_whole:
            self._whole_at = began

    async def _read_on(self) -> None:
        while True:
            await self.read()
            await asyncio.sleep(_READ_EVERY_SECONDS)
