"""What an operator does with parked events: apply those of a key once what was wrong is fixed, or give one up."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.postgres import Database
from domain.events import UnreadableEvent
from projections.generations import generation_of
from projections.parking import count_of_key, find_parked, lock_first_of_key, take_out
from projections.projection import E, Projection
from projections.sink import refusal

_BATCH = 500
"""Events in one transaction, like the runner's: the projection waits for it when it has an event of the key."""


@dataclass(frozen=True)
class Replayed:
    """How many parked events of a key are applied and taken out, and why the next one still fails, if one does."""

    applied: int
    failure: str | None


@dataclass(frozen=True)
class Discarded:
    """Projection and key of an event that was given up, and how many others of that key stay parked."""

    projection: str
    key: str
    still_parked: int


async def replay(database: Database, projection: Projection[E], key: str) -> Replayed:
    """Apply the parked events of a key in order until none is left or one still fails.

    Raises RedisError while the cache cannot be dropped: it lacks what is applied, so that stays parked, and another
    replay drops it. Applying twice changes nothing.
    """
    applied = 0
    while True:
        # The projection parks more of the key until it sees nothing parked, so what is left is looked at again.
        async with database.transaction() as tx:
            generation = await generation_of(tx, projection.name, locked=True)
            rows = await lock_first_of_key(tx, projection.name, key, _BATCH)
            done, events, failure = await _apply(tx, projection, rows, generation)
        if done:
            if keys := projection.cache_keys(events):
                await projection.drop_cached(keys, generation)
            async with database.transaction() as tx:
                await take_out(tx, projection.name, done)
            applied += len(done)
        if failure or not rows:
            return Replayed(applied, failure)


async def _apply(
    tx: AsyncConnection, projection: Projection[E], rows: Sequence[Row[Any]], generation: int
) -> tuple[list[int], list[E], str | None]:
    """Apply `rows` up to the first that fails: the ids of those that are done, their events, and why that one fails."""
    done: list[int] = []
    events: list[E] = []
    for row in rows:
        try:
            event = projection.read(row.topic, row.payload)
        except UnreadableEvent as error:
            return done, events, f"{row.id}: {error}"
        if event is not None:
            if reason := await refusal(tx, projection, event, generation):
                return done, events, f"{row.id}: {reason}"
            events.append(event)
        done.append(row.id)
    return done, events, None


async def discard(database: Database, parked_id: int) -> Discarded | None:
    """Give up one parked event of whichever projection; None if there is none of that id."""
    async with database.transaction() as tx:
        found = await find_parked(tx, parked_id)
        if found is None or not await take_out(tx, found.projection, [parked_id]):
            return None
        return Discarded(found.projection, found.key, await count_of_key(tx, found.projection, found.key))
