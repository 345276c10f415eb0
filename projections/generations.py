"""Generations of a read model: which one serves, and the number that a rebuild fills and switches to."""

import asyncio
import logging
import time

from sqlalchemy import bindparam, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.postgres import Database, DatabaseUnavailable
from adapters.tables import read_models

log = logging.getLogger(__name__)

_FRESH_SECONDS = 5.0
"""How long a reader goes on with the old generation after a rebuild has switched."""

_LOCKS = 7237004
"""Sets our advisory locks apart from those that something else takes in this database."""
_GENERATION = select(read_models.c.generation).where(read_models.c.name == bindparam("name"))
# Not a lock of the row: new writers would share it before the switch that waits for those who hold it already, and a
# rebuild under load would never switch. Advisory locks are granted in the order in which they are asked for.
_LOCK_FOR_WRITING = text("SELECT pg_advisory_xact_lock_shared(:locks, hashtext(:name))")
_LOCK_FOR_SWITCHING = text("SELECT pg_advisory_xact_lock(:locks, hashtext(:name))")


async def generation_of(tx: AsyncConnection, name: str, *, locked: bool = False) -> int:
    """The serving generation of a read model. `locked` keeps a rebuild from switching meanwhile."""
    if locked:
        # A statement of its own: what the next one reads is what the switch has left.
        await tx.execute(_LOCK_FOR_WRITING, {"locks": _LOCKS, "name": name})
    generation: int = (await tx.execute(_GENERATION, {"name": name})).scalar_one()
    return generation


async def claim_generation(connection: AsyncConnection, name: str) -> int:
    """A generation number that no rebuild has had, finished or not: Redis may hold sets under every number used."""
    newest = func.greatest(read_models.c.newest_generation, read_models.c.generation) + 1
    claim = update(read_models).where(read_models.c.name == name).values(newest_generation=newest)
    claimed: int = (await connection.execute(claim.returning(read_models.c.newest_generation))).scalar_one()
    return claimed


async def switch_generation(tx: AsyncConnection, name: str, generation: int) -> None:
    """Have another generation serve once `tx` commits. Waits for those who hold `generation_of` locked."""
    await tx.execute(_LOCK_FOR_SWITCHING, {"locks": _LOCKS, "name": name})
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
        """The generation to read. Raises DatabaseUnavailable while none is known and Postgres is unavailable."""
        now = time.monotonic()
        if now < self._fresh_until and self._known is not None:
            return self._known
        if self._look_up is None:
            if now < self._fresh_until + _FRESH_SECONDS:
                # One reader looks; the others go on. After a longer pause what is known may be hours old: all wait.
                self._fresh_until = float("inf")
            self._look_up = asyncio.create_task(self._look(tenant_id))
        # A cancelled reader does not take the look-up from those who wait with it.
        return await asyncio.shield(self._look_up)

    def seen(self, generation: int) -> int:
        """Note a generation that was read from Postgres; returns the newest one that is known."""
        # Numbers only rise: a slow answer of before a switch does not bring the old one back.
        self._known = max(generation, self._known or 0)
        return self._known

    async def _look(self, tenant_id: str) -> int:
        try:
            async with self._database.statements(tenant_id) as connection:
                return self.seen(await generation_of(connection, self._name))
        except DatabaseUnavailable:
            if self._known is None:
                raise
            log.warning("Postgres is unavailable: %s is read from Redis, generation %d", self._name, self._known)
            return self._known
        finally:
            self._look_up = None
            self._fresh_until = float("-inf") if self._known is None else time.monotonic() + _FRESH_SECONDS
