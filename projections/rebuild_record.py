"""The record of a rebuild: how far it has come, written in the transaction of what it has applied."""

from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from sqlalchemy import Row, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.event_store import Position
from adapters.tables import event_store, rebuilds
from domain.rebuilds import RebuildOrder, RebuildProgress, RebuildStatus

_COUNTED = 1_000_000
"""Up to so many events are counted, which takes some 0.1 s; of more, Postgres' estimate is used."""
_SHOWN = tuple(rebuilds.c[name] for name in RebuildProgress.model_fields)
_ESTIMATE = text("SELECT CAST(reltuples AS bigint) FROM pg_class WHERE oid = 'user_history.event_store'::regclass")


@dataclass(frozen=True)
class Place:
    """Where a rebuild is: the snapshots of its round, the last event that it has applied, and what it has counted."""

    since: str | None = None
    """The snapshot of the previous round, all of whose events are applied; None in the first round."""
    until: str | None = None
    """The snapshot of this round; None between two rounds."""
    position: Position = field(default_factory=Position)
    done: int = 0
    applied: int = 0
    parked: int = 0
    round_from: int = 0
    """`done` at the beginning of the round."""
    ready: bool = False
    working_seconds: float = 0.0

    def begun(self, until: str) -> "Place":
        """The beginning of a round with the events up to a snapshot."""
        return replace(self, until=until, position=Position(), round_from=self.done)

    def ended(self, batch: int) -> "Place":
        """The end of a round. After one with no more than a batch, the rest can be done while switching."""
        return replace(self, since=self.until, until=None, ready=self.done - self.round_from <= batch)


async def begin_record(connection: AsyncConnection, order: RebuildOrder, generation: int) -> None:
    """Insert the record of a new rebuild."""
    estimate: int = (await connection.execute(_ESTIMATE)).scalar_one()
    total = estimate
    if estimate < _COUNTED:
        total = (await connection.execute(select(func.count()).select_from(event_store))).scalar_one()
    values = {
        "rebuild_id": order.rebuild_id,
        "projection": order.projection,
        "generation": generation,
        "status": RebuildStatus.RUNNING.value,
        "requested_by": order.requested_by,
        "total": total,
    }
    await connection.execute(insert(rebuilds).values(values))


async def place_of(connection: AsyncConnection, rebuild_id: UUID) -> Place:
    """The place of a rebuild that has begun."""
    row = (await connection.execute(select(rebuilds).where(rebuilds.c.rebuild_id == rebuild_id))).one()
    counted = {name: getattr(row, name) for name in Place.__dataclass_fields__ if name != "position"}
    return Place(position=Position(row.tx_id, row.id), **counted)


async def save_place(connection: AsyncConnection, rebuild_id: UUID, place: Place) -> None:
    """Record the place; in a transaction with what was applied."""
    values = {name: getattr(place, name) for name in Place.__dataclass_fields__ if name != "position"}
    await connection.execute(
        update(rebuilds)
        .where(rebuilds.c.rebuild_id == rebuild_id)
        .values(tx_id=place.position.tx_id, id=place.position.id, updated_at=func.now(), **values)
    )


async def set_status(
    connection: AsyncConnection,
    rebuild_id: UUID,
    status: RebuildStatus,
    detail: str | None = None,
    *,
    finished: bool = False,
) -> None:
    """Record the status of a rebuild that is not finished; one that is keeps its own."""
    values: dict[str, Any] = {"status": status.value, "detail": detail, "updated_at": func.now()}
    if finished:
        values["finished_at"] = func.now()
    unfinished = rebuilds.c.rebuild_id == rebuild_id, rebuilds.c.finished_at.is_(None)
    await connection.execute(update(rebuilds).where(*unfinished).values(values))


async def find_rebuild(connection: AsyncConnection, rebuild_id: UUID) -> RebuildProgress | None:
    """The progress of a rebuild; None before it has begun."""
    query = select(*_SHOWN).where(rebuilds.c.rebuild_id == rebuild_id)
    return _progress((await connection.execute(query)).one_or_none())


async def newest_rebuild(
    connection: AsyncConnection, projection: str, *, unfinished: bool = False
) -> RebuildProgress | None:
    """The newest rebuild of a projection, or with `unfinished` the one that is not finished."""
    query = select(*_SHOWN).where(rebuilds.c.projection == projection)
    if unfinished:
        query = query.where(rebuilds.c.finished_at.is_(None))
    newest = query.order_by(rebuilds.c.started_at.desc(), rebuilds.c.generation.desc()).limit(1)
    return _progress((await connection.execute(newest)).one_or_none())


def _progress(row: Row[Any] | None) -> RebuildProgress | None:
    return RebuildProgress.model_validate(dict(row._mapping)) if row else None
