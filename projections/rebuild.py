"""Rebuild a projection: replay the event store into a new generation while the old one serves, then switch."""

import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Generic, NamedTuple
from uuid import uuid4

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters import event_store
from adapters.postgres import Database, advisory_lock, transaction_on
from adapters.search.engine import SearchUnavailable
from domain.rebuilds import RebuildOrder, RebuildProgress, RebuildStatus
from projections.generations import claim_generation, generation_of, register_read_model, switch_generation
from projections.parking import delete_all_parked, move_parked
from projections.projection import E, Projection
from projections.rebuild_record import begin_record, find_rebuild, newest_rebuild, save_place, set_status
from projections.rebuild_rounds import Progress, Rounds, parked_name

log = logging.getLogger(__name__)

LOCKS = 7237003
"""Namespace of these advisory locks (the first of their two keys)."""
_BLOCKS_DELETED = 200
"""Blocks of 8 kB (up to 20,000 rows) per DELETE: about 0.1 s, whatever the size of the table."""


class RebuildRunning(Exception):
    """Another rebuild of the same projection is running."""


class RebuildEnded(Exception):
    """The rebuild was ended by another one, or by an operator."""


class Rebuilt(NamedTuple):
    """The number of events in the new generation, its number, and how many events were parked."""

    applied: int
    generation: int
    parked: int


async def rebuild(database: Database, projection: Projection[Any], progress: Progress) -> Rebuilt:
    """Rebuild in this process: replay the event store through `apply` into a new generation, then switch to it.

    `progress` is called with the number of replayed events. An event that is rejected is parked with later ones of
    its key, as when it comes from Kafka. When interrupted, nothing is parked, the old generation keeps serving, and the
    next rebuild deletes the rows of the new one.

    Raises RebuildRunning while another one runs; DatabaseUnavailable when the connection is lost, and its lock with it;
    NotRenumbered on a restored store; SearchUnavailable; TooManyFailures.
    """
    order = RebuildOrder(rebuild_id=uuid4(), projection=projection.name)
    async with rebuild_steps(database, projection, order, progress) as steps:
        await steps.begin()
        while not (await steps.replay(float("inf"))).ready:
            pass
        await steps.switch()
        done = await steps.finish()
    return Rebuilt(done.applied, done.generation, done.parked)


@asynccontextmanager
async def rebuild_steps(
    database: Database, projection: Projection[E], order: RebuildOrder, progress: Progress = lambda _: None
) -> AsyncIterator["RebuildSteps[E]"]:
    """The steps of a rebuild, under the lock that keeps others of the same projection out. Raises RebuildRunning."""
    async with (
        database.statements() as connection,
        advisory_lock(connection, LOCKS, lock_name(projection.name)) as locked,
    ):
        if not locked:
            raise RebuildRunning(f"another rebuild of {projection.name} is running: wait for its end, or stop it")
        await event_store.ensure_renumbered(connection)
        yield RebuildSteps(database, connection, projection, order, progress)


def lock_name(projection: str) -> str:
    """The name of the advisory lock of a rebuild."""
    return f"rebuild {projection}"


class RebuildSteps(Generic[E]):
    """The steps of one rebuild, in this order: begin, replay until it is ready, switch, finish; or abort.

    Each can be repeated, also after it was interrupted: the place is recorded in the transaction of each batch.
    """

    def __init__(
        self,
        database: Database,
        connection: AsyncConnection,
        projection: Projection[E],
        order: RebuildOrder,
        show: Progress,
    ) -> None:
        self._database = database
        self._connection = connection
        self._projection = projection
        self._order = order
        self._show = show

    async def begin(self) -> RebuildProgress:
        """Delete what earlier rebuilds have left, and claim a generation."""
        if await find_rebuild(self._connection, self._order.rebuild_id) is None:
            await self._claim()
        progress = await self._progress()
        if (store := self._projection.store) and not progress.done and progress.finished_at is None:
            # After the record, so that a rebuild whose store is unavailable is seen, and can be paused and cancelled.
            await store.create(progress.generation)
        return progress

    async def _claim(self) -> None:
        connection, name = self._connection, self._projection.name
        await register_read_model(connection, name)
        if left := await newest_rebuild(connection, name, unfinished=True):
            detail = "Another rebuild began after this one had stopped."
            await set_status(connection, left.rebuild_id, RebuildStatus.INTERRUPTED, detail, finished=True)
        await delete_all_parked(connection, parked_name(name, ""))
        await self._delete_all_but(await generation_of(connection, name))
        async with transaction_on(connection):
            await begin_record(connection, self._order, await claim_generation(connection, name))

    async def replay(self, seconds: float) -> RebuildProgress:
        """Replay for so many seconds, a batch at least, or until it is ready for the switch. Raises RebuildEnded."""
        progress = await self._unfinished()
        if progress.ready or await self._is_serving(progress):
            return progress
        await self._ensure_stored(progress)
        rounds, ends = self._rounds(progress), time.monotonic() + seconds
        place = await rounds.place()
        while not place.ready:
            place = await rounds.round(place, ends)
            if time.monotonic() >= ends:
                break
        return await self._progress()

    async def switch(self) -> RebuildProgress:
        """Make the new generation the serving one. Raises RebuildEnded."""
        progress, connection = await self._unfinished(), self._connection
        if await self._is_serving(progress):
            return progress
        await self._ensure_stored(progress)
        rounds = self._rounds(progress)
        place = replace(await rounds.place(), ready=False)
        while not place.ready:
            # What was stored since the last round: a step that is tried again may come hours later.
            place = await rounds.round(place, float("inf"))
        async with transaction_on(connection):
            # Waits for the projections' open transactions, whose events are visible then, and blocks new ones.
            await switch_generation(connection, progress.projection, progress.generation)
            place = await rounds.rest(place)
            # Only after the switch: the old generation may have applied these events, and an operator who retries them
            # before it would remove them from the parked ones.
            await move_parked(connection, rounds.parked_name, progress.projection)
            await save_place(connection, progress.rebuild_id, place)
        return await self._progress()

    async def finish(self) -> RebuildProgress:
        """Delete the old generation."""
        progress = await self._progress()
        if progress.finished_at is None:
            if store := self._projection.store:
                await store.serve(progress.generation)
            await self._complete(progress)
        return await self._progress()

    async def abort(self, status: RebuildStatus, detail: str | None) -> RebuildProgress | None:
        """Delete the new generation, unless it serves; the old one goes on serving. None if nothing had begun.

        It ends when the store is unavailable too, which may be why the rebuild is cancelled. The projection then has
        its readers given the serving generation, and the next rebuild deletes what is left in the store.
        """
        connection, name = self._connection, self._projection.name
        progress = await find_rebuild(connection, self._order.rebuild_id)
        if progress is None or progress.finished_at:
            return progress
        serving = await generation_of(connection, name)
        if store := self._projection.store:
            try:
                if await store.has(serving):
                    await store.serve(serving)
            except SearchUnavailable as error:
                log.warning("%s: what is left of generation %d stays (%s)", name, progress.generation, error)
        if serving == progress.generation:
            await self._complete(progress)
        else:
            await self._delete_all_but(serving)
            await delete_all_parked(connection, parked_name(name, progress.generation))
            await set_status(connection, progress.rebuild_id, status, detail, finished=True)
        return await self._progress()

    async def _complete(self, progress: RebuildProgress) -> None:
        await self._delete_all_but(progress.generation)
        await set_status(self._connection, progress.rebuild_id, RebuildStatus.COMPLETED, finished=True)

    def _rounds(self, progress: RebuildProgress) -> Rounds[E]:
        return Rounds(self._database, self._connection, self._projection, progress, self._show)

    async def _unfinished(self) -> RebuildProgress:
        progress = await self._progress()
        if progress.finished_at and progress.status is not RebuildStatus.COMPLETED:
            raise RebuildEnded(f"this rebuild of {progress.projection} has ended: {progress.detail or progress.status}")
        return progress

    async def _progress(self) -> RebuildProgress:
        progress = await find_rebuild(self._connection, self._order.rebuild_id)
        if progress is None:
            raise RebuildEnded(f"this rebuild of {self._projection.name} has no record: the database was restored")
        return progress

    async def _ensure_stored(self, progress: RebuildProgress) -> None:
        """Raises RebuildEnded when the store has lost what this rebuild has written."""
        if (store := self._projection.store) and not await store.has(progress.generation):
            raise RebuildEnded(f"generation {progress.generation} is lost in OpenSearch: start another rebuild")

    async def _is_serving(self, progress: RebuildProgress) -> bool:
        return await generation_of(self._connection, progress.projection) == progress.generation

    async def _delete_all_but(self, generation: int) -> None:
        """Delete the rows of other generations, some blocks at a time, each in a transaction of its own."""
        for table in self._projection.tables:
            # The size is read once: rows that are inserted later are of the serving generation or of this rebuild.
            size = text("SELECT pg_relation_size(CAST(:name AS regclass)) / current_setting('block_size')::bigint")
            blocks: int = (await self._connection.execute(size, {"name": table.fullname})).scalar_one()
            rows = text(
                f"DELETE FROM {table.fullname} WHERE generation <> :generation"
                " AND ctid >= CAST(CAST(:first AS text) AS tid) AND ctid < CAST(CAST(:end AS text) AS tid)"
            )
            for first in range(0, blocks, _BLOCKS_DELETED):
                bounds = {"first": f"({first},0)", "end": f"({first + _BLOCKS_DELETED},0)"}
                await self._connection.execute(rows, {"generation": generation, **bounds})
