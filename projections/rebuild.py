"""Rebuild a projection from the event store: a new generation is filled while the old one serves, then they switch."""

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import delete, text
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters import event_store
from adapters.event_store import Position
from adapters.postgres import Database, advisory_lock, transaction_on
from adapters.tables import user_activity
from projections.generations import claim_generation, generation_of, switch_generation
from projections.history import History, readable

_LOCKS = 7237003
"""Sets our advisory locks apart from those that something else takes in this database."""
_BATCH = 1000
"""Events read and applied by one statement each: a tenth of a second, far from the ten that a statement has."""
_IDS_DELETED = 10_000
"""Ids that one deletion covers: again a tenth of a second, however large the table is."""


class RebuildRunning(Exception):
    """Another rebuild of the same projection is running."""


async def rebuild(database: Database, projection: History, progress: Callable[[int], None]) -> tuple[int, int]:
    """Replay the whole store through `apply` into a new generation; returns how many entries it has and which it is.

    `progress` is given how many events have been replayed. Interrupted, it leaves one generation serving and rows of
    others, which the next rebuild deletes. Raises RebuildRunning while another one runs. Raises DatabaseAway when the
    connection is lost: the lock that keeps others out is gone with it, so this rebuild must not go on either. Raises
    NotRenumbered on a restored store, whose events look as if they were still to come.
    """
    async with (
        database.statements() as connection,
        advisory_lock(connection, _LOCKS, f"rebuild {projection.name}") as locked,
    ):
        if not locked:
            raise RebuildRunning(f"another rebuild of {projection.name} is running: wait for its end, or stop it")
        await event_store.ensure_order(connection)
        await _delete_all_but(connection, await generation_of(connection, projection.name))
        generation = await claim_generation(connection, projection.name)
        replay = _Replay(connection, projection, generation, progress)
        since: str | None = None
        far_behind = True
        while far_behind:
            # A round leaves to the next what is stored meanwhile, so each is shorter than the one before.
            until = await event_store.current_snapshot(connection)
            far_behind = await replay.between(since, until) > _BATCH
            since = until
        async with transaction_on(connection):
            # Projections write while they hold this row shared: what they wrote is visible now, and they go on after.
            await switch_generation(connection, projection.name, generation)
            await replay.between(since, None)
        await _delete_all_but(connection, generation)
    return replay.entries, generation


@dataclass
class _Replay:
    """What a rebuild has applied so far."""

    connection: AsyncConnection
    projection: History
    generation: int
    progress: Callable[[int], None]
    events: int = 0
    entries: int = 0

    async def between(self, since: str | None, until: str | None) -> int:
        """Apply the events that are visible in the snapshot `until` and were not in `since`; returns how many."""
        before, position = self.events, Position()
        while events := await event_store.visible_between(self.connection, since, until, position, _BATCH):
            activities = readable([message for _, message in events], where="rebuild")
            await self.projection.apply(self.connection, activities, self.generation)
            position = events[-1][0]
            self.events += len(events)
            self.entries += len(activities)
            self.progress(self.events)
        return self.events - before


async def _delete_all_but(connection: AsyncConnection, generation: int) -> None:
    """Delete the rows of other generations, a range of ids at a time, each in a transaction of its own."""
    # Rows that are written from here on belong to the serving generation or to this rebuild.
    bounds = text(
        "SELECT (SELECT min(id) FROM user_history.user_activity), nextval('user_history.user_activity_id_seq')"
    )
    begin, end = (await connection.execute(bounds)).one()
    for first in range(begin or end, end, _IDS_DELETED):
        ids = user_activity.c.id.between(first, first + _IDS_DELETED - 1)
        await connection.execute(delete(user_activity).where(ids, user_activity.c.generation != generation))
