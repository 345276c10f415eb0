"""Generations of a read model: which one serves, and the number that a rebuild fills and switches to."""

import asyncio
import logging
import time

from sqlalchemy import bindparam, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.postgres import Database, DatabaseAway
from adapters.tables import read_models

log = logging.getLogger(__name__)

_FRESH_SECONDS = 5.0
"""How long a reader goes on with the old generation after a rebuild has switched."""

_GENERATION = select(read_models.c.generation).where(read_models.c.name == bindparam("name"))
_LOCKED_GENERATION = _GENERATION.with_for_update(read=True, key_share=False)


async def generation_of(tx: AsyncConnection, name: str, *, locked: bool = False) -> int:
    """The serving generation of a read model. `locked` keeps a rebuild from switching meanwhile."""
    query = _LOCKED_GENERATION if locked else _GENERATION
    generation: int = (await tx.execute(query, {"name": name})).scalar_one()
    return generation


async def claim_generation(connection: AsyncConnection, name: str) -> int:
    """A generation number that no rebuild has had, finished or not: Redis may hold sets under every number used."""
    newest = func.greatest(read_models.c.newest_generation, read_models.c.generation) + 1
    claim = update(read_models).where(read_models.c.name == name).values(newest_generation=newest)
    claimed: int = (await connection.execute(claim.returning(read_models.c.newest_generation))).scalar_one()
    return claimed


async def switch_generation(tx: AsyncConnection, name: str, generation: int) -> None:
    """Have another generation serve once `tx` commits. Waits for those who hold `generation_of` locked."""
    await tx.execute(update(read_models).where(read_models.c.name == name).values(generation=generation))


class ServingGeneration:
    """The serving generation as one process knows it: looked up by one reader for all, and good for five seconds."""

    def __init__(self, database: Database, name: str) -> None:
        self._database = database
        self._name = name
        self._known: int | None = None
        self._fresh_until = float("-inf")
        self._look_up: asyncio.Task[int] | None = None

    async def get(self, tenant_id: str) -> int:
        """The generation to read. Raises DatabaseAway while none is known and Postgres is unavailable."""
        now = time.monotonic()
        if now < self._fresh_until and self._known is not None:
            return self._known
        if self._look_up is None:
            if now < self._fresh_until + _FRESH_SECONDS:
                # One reader looks; the others go on. After a longer pause what is known may be hours old: all wait.
                self._fresh_until = float("inf")
            self._look_up = asyncio.create_task(self._look(tenant_id))
        # A reader that goes away does not take the look-up from those who wait with it.
        return await asyncio.shield(self._look_up)

    def seen(self, generation: int) -> None:
        """Note a generation that was just read from Postgres."""
        self._known = generation

    async def _look(self, tenant_id: str) -> int:
        try:
            async with self._database.statements(tenant_id) as connection:
                self._known = await generation_of(connection, self._name)
        except DatabaseAway:
            if self._known is None:
                raise
            log.warning("Postgres is unavailable: %s is read from Redis, generation %d", self._name, self._known)
        finally:
            self._look_up = None
            self._fresh_until = float("-inf") if self._known is None else time.monotonic() + _FRESH_SECONDS
        return self._known
