"""Generations of a read model: the serving one, and those that rebuilds write and switch to."""

import asyncio
import logging
import time

from sqlalchemy import bindparam, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.postgres import Database, DatabaseUnavailable
from adapters.tables import read_models

log = logging.getLogger(__name__)

_FRESH_SECONDS = 5.0
"""How long a process caches the serving generation."""

_FIRST = 1
"""The generation of a projection that was never rebuilt."""
_LOCKS = 7237004
"""Namespace of these advisory locks (the first of their two keys)."""
_UNSTORED = select(read_models.c.unstored_generation).where(read_models.c.name == bindparam("name"))
_GENERATION = select(read_models.c.generation).where(read_models.c.name == bindparam("name"))
# Not a shared row lock: under load new writers would keep taking it while the switch waits, and a rebuild would never
# switch. Advisory locks are granted in the order of the requests.
_LOCK_FOR_WRITING = text("SELECT pg_advisory_xact_lock_shared(:locks, hashtext(:name))")
_LOCK_FOR_SWITCHING = text("SELECT pg_advisory_xact_lock(:locks, hashtext(:name))")


async def register_read_model(connection: AsyncConnection, name: str) -> None:
    """Insert the row of a read model that has none, because its projection runs for the first time."""
    await connection.execute(insert(read_models).values(name=name, generation=_FIRST).on_conflict_do_nothing())


async def generation_of(tx: AsyncConnection, name: str, *, locked: bool = False) -> int:
    """The serving generation of a read model, the first if it has no row yet. `locked` keeps it until `tx` ends."""
    if locked:
        # A separate statement, so that the next one has a snapshot taken after the switch.
        await hold_generation(tx, name)
    generation: int | None = (await tx.execute(_GENERATION, {"name": name})).scalar_one_or_none()
    return generation or _FIRST


async def hold_generation(tx: AsyncConnection, name: str) -> None:
    """Keep the serving generation of a read model from switching until `tx` ends."""
    await tx.execute(_LOCK_FOR_WRITING, {"locks": _LOCKS, "name": name})


async def mark_unstored(tx: AsyncConnection, name: str, generation: int) -> None:
    """Record that a generation is written without the projection's store, which then lacks it, as it may older ones."""
    read_model = update(read_models).where(read_models.c.name == name, read_models.c.unstored_generation < generation)
    await tx.execute(read_model.values(unstored_generation=generation))


async def is_stored(tx: AsyncConnection, name: str, generation: int) -> bool:
    """Whether every write of a generation went to the projection's store too, unless the store has lost it since."""
    unstored: int = (await tx.execute(_UNSTORED, {"name": name})).scalar_one()
    return generation > unstored


async def claim_generation(connection: AsyncConnection, name: str) -> int:
    """Allocate a generation number that was never used, also not by an aborted rebuild, whose sets Redis may hold."""
    newest = func.greatest(read_models.c.newest_generation, read_models.c.generation) + 1
    claim = update(read_models).where(read_models.c.name == name).values(newest_generation=newest)
    claimed: int = (await connection.execute(claim.returning(read_models.c.newest_generation))).scalar_one()
    return claimed


async def switch_generation(tx: AsyncConnection, name: str, generation: int) -> None:
    """Make another generation the serving one when `tx` commits. Waits for writers that hold `generation_of` locked."""
    await tx.execute(_LOCK_FOR_SWITCHING, {"locks": _LOCKS, "name": name})
    await tx.execute(update(read_models).where(read_models.c.name == name).values(generation=generation))


class ServingGeneration:
    """A cache of the serving generation for one process: refreshed by one reader for all, every five seconds."""

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
                # One reader refreshes; the others use the stale value, or wait if it may be hours old.
                self._fresh_until = float("inf")
            self._look_up = asyncio.create_task(self._look(tenant_id))
        # `shield`: a cancelled reader must not cancel the look-up of the other readers.
        return await asyncio.shield(self._look_up)

    def update(self, generation: int) -> int:
        """Update the cache with a generation read from Postgres; returns the newest known one."""
        # Numbers only increase, so a slow reply from before a switch is ignored.
        self._known = max(generation, self._known or 0)
        return self._known

    async def _look(self, tenant_id: str) -> int:
        try:
            async with self._database.statements(tenant_id) as connection:
                return self.update(await generation_of(connection, self._name))
        except DatabaseUnavailable:
            if self._known is None:
                raise
            log.warning("Postgres is unavailable: %s is read from Redis, generation %d", self._name, self._known)
            return self._known
        finally:
            self._look_up = None
            self._fresh_until = float("-inf") if self._known is None else time.monotonic() + _FRESH_SECONDS
