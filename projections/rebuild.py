"""Rebuild a projection: replay the event store into a new generation while the old one serves, then switch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters import event_store
from adapters.event_store import Position
from adapters.postgres import Database, advisory_lock, transaction_on
from projections.generations import claim_generation, generation_of, switch_generation
from projections.projection import Projection, as_consumed

_LOCKS = 7237003
"""Namespace of these advisory locks (the first of their two keys)."""
_BATCH = 1000
"""Events per statement: about 0.1 s, well below the statement timeout of 10 s."""
_BLOCKS_DELETED = 200
"""Blocks of 8 kB (up to 20,000 rows) per DELETE: about 0.1 s, whatever the size of the table."""


class RebuildRunning(Exception):
    """Another rebuild of the same projection is running."""


async def rebuild(database: Database, projection: Projection[Any], progress: Callable[[int], None]) -> tuple[int, int]:
    """Replay the event store through `apply` into a new generation; returns how many were applied, and its number.

    `progress` is called with the number of replayed events. When interrupted, the old generation keeps serving, and the
    next rebuild deletes the rows of the new one.

    Raises RebuildRunning while another one runs; DatabaseUnavailable when the connection is lost, and its lock with it;
    NotRenumbered on a restored store.
    """
    async with (
        database.statements() as connection,
        advisory_lock(connection, _LOCKS, f"rebuild {projection.name}") as locked,
    ):
        if not locked:
            raise RebuildRunning(f"another rebuild of {projection.name} is running: wait for its end, or stop it")
        await event_store.ensure_renumbered(connection)
        await _delete_all_but(connection, projection, await generation_of(connection, projection.name))
        generation = await claim_generation(connection, projection.name)
        replay = _Replay(connection, projection, generation, progress)
        since: str | None = None
        more_than_a_batch = True
        while more_than_a_batch:
            # Events that are stored during a round are left to the next, so rounds get shorter.
            until = await event_store.current_snapshot(connection)
            more_than_a_batch = await replay.between(since, until) > _BATCH
            since = until
        async with transaction_on(connection):
            # Waits for the projections' open transactions, whose events are visible then, and blocks new ones.
            await switch_generation(connection, projection.name, generation)
            await replay.between(since, None)
        await _delete_all_but(connection, projection, generation)
    return replay.applied, generation


@dataclass
class _Replay:
    """The progress of a rebuild."""

    connection: AsyncConnection
    projection: Projection[Any]
    generation: int
    progress: Callable[[int], None]
    events: int = 0
    applied: int = 0

    async def between(self, since: str | None, until: str | None) -> int:
        """Apply the events that are visible in the snapshot `until` and were not in `since`; returns how many."""
        before, position = self.events, Position()
        while events := await event_store.visible_between(self.connection, since, until, position, _BATCH):
            stored = as_consumed(self.projection, [message for _, message in events], where="rebuild")
            read = [self.projection.read(message.topic, message.value) for message in stored.messages]
            concerned = [event for event in read if event is not None]
            if concerned:
                await self.projection.apply(self.connection, concerned, self.generation)
            position = events[-1][0]
            self.events += len(events)
            self.applied += len(concerned)
            self.progress(self.events)
        return self.events - before


async def _delete_all_but(connection: AsyncConnection, projection: Projection[Any], generation: int) -> None:
    """Delete the rows of other generations, some blocks at a time, each in a transaction of its own."""
    for table in projection.tables:
        # The size is read once: rows that are inserted later are of the serving generation or of this rebuild.
        size = text("SELECT pg_relation_size(CAST(:name AS regclass)) / current_setting('block_size')::bigint")
        blocks: int = (await connection.execute(size, {"name": table.fullname})).scalar_one()
        rows = text(
            f"DELETE FROM {table.fullname} WHERE generation <> :generation"
            " AND ctid >= CAST(CAST(:first AS text) AS tid) AND ctid < CAST(CAST(:end AS text) AS tid)"
        )
        for first in range(0, blocks, _BLOCKS_DELETED):
            bounds = {"first": f"({first},0)", "end": f"({first + _BLOCKS_DELETED},0)"}
            await connection.execute(rows, {"generation": generation, **bounds})
