"""What an operator does with parked events: apply those of a key once what was wrong is fixed, or give one up."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.postgres import Database, is_transient
from domain.activity import Activity
from domain.events import UnreadableEvent
from projections.generations import generation_of
from projections.history import History
from projections.parking import count_of_key, lock_first_of_key, take_out

_BATCH = 500
"""Events in one transaction, like the runner's: the projection waits for it when it has an event of the key."""


@dataclass(frozen=True)
class Replayed:
    """How many parked events of a key are applied and taken out, and why the next one still fails, if one does."""

    applied: int
    failure: str | None


@dataclass(frozen=True)
class Discarded:
    """The key of an event that was given up, and how many others of that key stay parked."""

    key: str
    still_parked: int


async def replay(database: Database, history: History, key: str) -> Replayed:
    """Apply the parked events of a key in order until none is left or one still fails.

    Raises RedisError while the users' sets cannot be dropped: they lack what is applied, so it stays parked, and
    another replay drops them. Applying twice changes nothing.
    """
    applied = 0
    while True:
        # The projection parks more of the key until it sees nothing parked, so what is left is looked at again.
        async with database.transaction() as tx:
            generation = await generation_of(tx, history.name, locked=True)
            rows = await lock_first_of_key(tx, history.name, key, _BATCH)
            activities, failure = await _apply(tx, history, rows, generation)
        if activities:
            users = {(activity.tenant_id, str(activity.user_id)) for activity in activities}
            await history.drop_from_redis(users, generation)
            async with database.transaction() as tx:
                await take_out(tx, history.name, [row.id for row in rows[: len(activities)]])
            applied += len(activities)
        if failure or not rows:
            return Replayed(applied, failure)


async def _apply(
    tx: AsyncConnection, history: History, rows: Sequence[Row[Any]], generation: int
) -> tuple[list[Activity], str | None]:
    """What is applied of `rows`, up to the first that fails, and why that one does."""
    applied: list[Activity] = []
    for row in rows:
        try:
            activity = history.read(row.payload)
            async with tx.begin_nested():
                await history.apply(tx, [activity], generation)
        except UnreadableEvent as error:
            return applied, f"{row.id}: {error}"
        except DBAPIError as error:
            if is_transient(error):
                raise
            return applied, f"{row.id}: the sink refuses it: {error.orig}"
        applied.append(activity)
    return applied, None


async def discard(database: Database, projection: str, parked_id: int) -> Discarded | None:
    """Give up one parked event; None if there is none of that id."""
    async with database.transaction() as tx:
        keys = await take_out(tx, projection, [parked_id])
        return Discarded(keys[0], await count_of_key(tx, projection, keys[0])) if keys else None
