"""Operator actions on parked events: retry those of a key, or discard one."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.postgres import Database
from domain.events import UnreadableEvent
from projections.generations import generation_of, hold_generation
from projections.parking import count_of_key, delete_parked, find_parked, lock_first_of_key, record_discarded
from projections.projection import E, Projection
from projections.sink import try_apply

_BATCH = 500
"""Events per transaction, the same as the consumer's batch; the projection may wait for its lock."""


@dataclass(frozen=True)
class Retried:
    """How many parked events of a key were applied and deleted, and why the next one fails (None if none does)."""

    applied: int
    failure: str | None


@dataclass(frozen=True)
class Discarded:
    """Projection and key of a discarded event, and how many others of that key stay parked."""

    projection: str
    key: str
    still_parked: int


async def retry(database: Database, projection: Projection[E], key: str) -> Retried:
    """Apply the parked events of a key in order until none is left or one still fails.

    When a rebuild switches meanwhile, they are applied once more, to the generation that serves: it may lack them.

    Raises RedisError when the cache cannot be invalidated. The applied events then stay parked, so that another retry
    invalidates it; applying them twice changes nothing.
    """
    applied = 0
    while True:
        # The projection parks more events of the key until none is parked, so read again after each batch.
        async with database.transaction() as tx:
            generation = await generation_of(tx, projection.name, locked=True)
            rows = await lock_first_of_key(tx, projection.name, key, _BATCH)
            done, events, failure = await _apply(tx, projection, rows, generation)
        if done:
            if keys := projection.cache_keys(events):
                await projection.drop_cached(keys, generation)
            async with database.transaction() as tx:
                if await generation_of(tx, projection.name, locked=True) != generation:
                    # A switch parks what the new generation lacks, and keeps these rows for it.
                    continue
                await delete_parked(tx, projection.name, done)
            applied += len(done)
        if failure or not rows:
            return Retried(applied, failure)


async def _apply(
    tx: AsyncConnection, projection: Projection[E], rows: Sequence[Row[Any]], generation: int
) -> tuple[list[int], list[E], str | None]:
    """Apply `rows` up to the first failure: the applied ids, their events, and the reason of the failure."""
    done: list[int] = []
    events: list[E] = []
    for row in rows:
        try:
            event = projection.read(row.topic, row.payload)
        except UnreadableEvent as error:
            return done, events, f"{row.id}: {error}"
        if event is not None:
            if reason := await try_apply(tx, projection, event, generation):
                return done, events, f"{row.id}: {reason}"
            events.append(event)
        done.append(row.id)
    return done, events, None


async def discard(
    database: Database,
    parked_id: int,
    reason: str,
    by: UUID | None = None,
    *,
    tenants: Collection[str] | None = None,
    projection: str | None = None,
) -> Discarded | None:
    """Delete one parked event and record the reason; None if there is none with that id.

    `by` is an administrator, or None at the command line. With `tenants` and `projection` it must be of them.
    """
    async with database.transaction() as tx:
        found = await find_parked(tx, parked_id, tenants, projection)
        if found:
            # A switch that does not see the record would park the event again.
            await hold_generation(tx, found.projection)
        if found is None or not await delete_parked(tx, found.projection, [parked_id]):
            return None
        await record_discarded(tx, found, reason, by)
        return Discarded(found.projection, found.key, await count_of_key(tx, found.projection, found.key))
