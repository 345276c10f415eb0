"""Rebuild a projection from the event store: a new generation is filled while the old one serves, then they switch."""

import logging
from collections.abc import Callable

from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters import event_store
from adapters.event_store import Position
from adapters.postgres import Database
from adapters.tables import read_models, user_activity
from domain.activity import Activity
from domain.events import UnreadableEvent
from projections.history import History

log = logging.getLogger(__name__)

_BATCH = 1000


async def rebuild(database: Database, projection: History, progress: Callable[[int], None]) -> tuple[int, int]:
    """Replay the whole store through `apply` into the next generation; returns how many entries it has and which it is.

    `progress` is told how many events have been replayed. Interrupted, it leaves the serving generation untouched.
    """
    async with database.transaction() as tx:
        query = select(read_models.c.generation).where(read_models.c.name == projection.name)
        serving: int = (await tx.execute(query)).scalar_one()
        # What an interrupted rebuild left behind.
        await tx.execute(delete(user_activity).where(user_activity.c.generation > serving))
    position, replayed = Position(), 0
    while True:
        async with database.transaction() as tx:
            events = await event_store.in_order(tx, position, _BATCH)
            await _apply(tx, projection, [message for _, message in events], serving + 1)
        if not events:
            break
        position = events[-1][0]
        replayed += len(events)
        progress(replayed)
    async with database.transaction() as tx:
        # Projections hold this row while they write: what they wrote is visible now, and they go on after.
        await tx.execute(
            update(read_models).where(read_models.c.name == projection.name).values(generation=serving + 1)
        )
        late = await event_store.visible_after(tx, position)
        await _apply(tx, projection, late, serving + 1)
        counted = select(func.count()).where(user_activity.c.generation == serving + 1)
        entries: int = (await tx.execute(counted)).scalar_one()
    async with database.transaction() as tx:
        await tx.execute(delete(user_activity).where(user_activity.c.generation <= serving))
    return entries, serving + 1


async def _apply(tx: AsyncConnection, projection: History, messages: list[dict[str, object]], generation: int) -> None:
    activities: list[Activity] = []
    for message in messages:
        try:
            activities.append(projection.read_stored(message))
        except UnreadableEvent as error:
            log.error("left out, for it cannot be read: %s", error)
    await projection.apply(tx, activities, generation)
