"""What operators see and do: the state of projections, their rebuilds and their parked events."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Row, bindparam, text
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters import event_store
from adapters.event_store import Position
from adapters.postgres import Database, advisory_lock_is_held
from adapters.rebuild_control import AlreadyRunning, RebuildControl
from domain.rebuilds import RebuildOrder, RebuildProgress, RebuildStatus, Signal
from projections.generations import generation_of
from projections.parking import count_parked, find_parked, page_of_discarded, page_of_parked
from projections.rebuild import LOCKS, RebuildRunning, lock_name
from projections.rebuild_record import find_rebuild, newest_rebuild
from projections.registry import PROJECTIONS, Clients
from projections.retrying import Discarded, Retried, discard, retry

MAX_COUNTED = 10_000
"""So many events after a checkpoint are counted, and no more."""
_LAG = text("""
    SELECT count(*) AS events, coalesce(extract(epoch FROM now() - min(timestamp)), 0) AS seconds
    FROM (
        SELECT timestamp FROM user_history.event_store
        WHERE (tx_id, id) > (CAST(CAST(:tx_id AS text) AS xid8), :id)
        ORDER BY tx_id, id LIMIT :limit
    ) AS later
""").bindparams(bindparam("limit", MAX_COUNTED))


@dataclass(frozen=True)
class ProjectionState:
    """One projection: what serves, its lag behind the event store, and what needs an operator."""

    name: str
    generation: int
    lag_events: int | None
    """Events of every tenant after its checkpoint, which follows within some ten seconds; at most MAX_COUNTED. None if
    it was not asked for."""
    lag_seconds: float | None
    """The age of the oldest of them."""
    parked: int


@dataclass(frozen=True)
class Starting:
    """A rebuild that is ordered, and that no worker has begun."""

    projection: str


class Operations:
    """Operators' view of every projection of the registry. The database is one of all tenants."""

    def __init__(self, database: Database, clients: Clients, control: RebuildControl) -> None:
        self._database = database
        self._clients = clients
        self._control = control

    async def close(self) -> None:
        if self._clients.index:
            await self._clients.index.close()
        await self._database.close()

    async def states(self, tenants: Collection[str], *, with_lag: bool) -> list[ProjectionState]:
        """The state of each projection, with the number of parked events of these tenants. Raises DatabaseUnavailable.

        The lag is that of every tenant.

        Raises NotRenumbered on a restored store.
        """
        async with self._database.statements() as connection:
            await event_store.ensure_renumbered(connection)
            parked = await count_parked(connection, tenants)
            states = []
            for name in PROJECTIONS:
                events, seconds = await _lag(connection, name) if with_lag else (None, None)
                generation = await generation_of(connection, name)
                states.append(ProjectionState(name, generation, events, seconds, parked.get(name, 0)))
            return states

    async def start_rebuild(self, name: str, requested_by: UUID | None) -> RebuildOrder:
        """Start the workflow of a rebuild. Raises RebuildRunning, TemporalUnavailable, DatabaseUnavailable."""
        async with self._database.statements() as connection:
            running = await advisory_lock_is_held(connection, LOCKS, lock_name(name))
        try:
            if running:
                raise AlreadyRunning
            return await self._control.start(name, requested_by)
        except AlreadyRunning as error:
            raise RebuildRunning(f"another rebuild of {name} is running: wait for its end, or cancel it") from error

    async def find_rebuild(self, name: str) -> RebuildProgress | Starting | None:
        """The newest rebuild of a projection; None if there was none. Raises TemporalUnavailable, DatabaseUnavailable.

        One whose workflow or process is gone is INTERRUPTED.
        """
        async with self._database.statements() as connection:
            newest = await newest_rebuild(connection, name)
            if (
                newest
                and newest.finished_at is None
                and await advisory_lock_is_held(connection, LOCKS, lock_name(name))
            ):
                return newest
        is_running = await self._control.is_running(name)
        if newest is None or newest.finished_at:
            return Starting(name) if is_running else newest
        if is_running:
            return newest
        async with self._database.statements() as connection:
            # It may have ended since.
            newest = await find_rebuild(connection, newest.rebuild_id) or newest
        if newest.finished_at:
            return newest
        detail = "Its workflow or process is gone. The old generation serves on: start another rebuild."
        return newest.model_copy(update={"status": RebuildStatus.INTERRUPTED, "detail": detail})

    async def signal_rebuild(self, name: str, signal: Signal) -> None:
        """Have a rebuild paused, resumed or cancelled. Raises NotRunning, TemporalUnavailable."""
        await self._control.send(name, signal)

    async def page_of_parked(self, name: str, tenants: Collection[str], after_id: int, limit: int) -> list[Row[Any]]:
        """Parked events of these tenants, oldest first. Raises DatabaseUnavailable."""
        async with self._database.statements() as connection:
            return await page_of_parked(connection, name, tenants, after_id, limit)

    async def page_of_discarded(
        self, name: str, tenants: Collection[str], before_id: int | None, limit: int
    ) -> list[Row[Any]]:
        """Discarded events of these tenants, the last parked first. Raises DatabaseUnavailable."""
        async with self._database.statements() as connection:
            return await page_of_discarded(connection, name, tenants, before_id, limit)

    async def find_parked(self, name: str, parked_id: int, tenants: Collection[str]) -> Row[Any] | None:
        """The parked event with this id, if it is of these tenants. Raises DatabaseUnavailable."""
        async with self._database.statements() as connection:
            return await find_parked(connection, parked_id, tenants, name)

    async def discard(
        self, name: str, parked_id: int, tenants: Collection[str], reason: str, by: UUID
    ) -> Discarded | None:
        """Delete a parked event of these tenants and record the reason; None if there is none with this id.

        Raises DatabaseUnavailable.
        """
        return await discard(self._database, parked_id, reason, by, tenants=tenants, projection=name)

    async def retry(self, name: str, parked_id: int, tenants: Collection[str]) -> Retried | None:
        """Apply the parked events of the key of one, in order; None if these tenants have none with this id.

        Raises RedisError when they are applied, and stay parked because the cache lacks them; DatabaseUnavailable.
        """
        async with self._database.statements() as connection:
            found = await find_parked(connection, parked_id, tenants, name)
        return await retry(self._database, PROJECTIONS[name](self._clients), found.key) if found else None


async def _lag(connection: AsyncConnection, name: str) -> tuple[int, float]:
    """The number of events after the checkpoint of a projection, and the age of the oldest in seconds."""
    checkpoint: Position = await event_store.checkpoint(connection, name)
    where = {"tx_id": str(checkpoint.tx_id), "id": checkpoint.id}
    later = (await connection.execute(_LAG, where)).one()
    return later.events, max(0.0, float(later.seconds))
