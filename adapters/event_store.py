"""The event store and the recorded commands: appended in one transaction, read in commit order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
import sqlalchemy as sa
from sqlalchemy import ARRAY, Text, Uuid, any_, bindparam, case, cast, func, select, text, tuple_, update
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.postgres import Write
from adapters.tables import checkpoints, commands, event_store
from domain.command import Command
from domain.events import Event

# Postgres stores times and JSON that Python cannot decode: times outside the years 1 to 9999, deep nesting, huge
# numbers. They are read as None, so that such an event is unreadable by itself and does not fail the whole query.
_EARLIEST, _LATEST = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)
HAS_TIME = event_store.c.timestamp.between(_EARLIEST, _LATEST)
MESSAGE_COLUMNS = (
    event_store.c.event_id,
    event_store.c.aggregate_id,
    event_store.c.user_id,
    event_store.c.tenant_id,
    event_store.c.event_type,
    case((HAS_TIME, event_store.c.timestamp)).label("timestamp"),
    event_store.c.version,
    event_store.c.schema_version,
    event_store.c.command_id,
    cast(event_store.c.event_data, Text).label("event_data"),
)


class NotRenumbered(Exception):
    """The stored transaction ids come from another Postgres cluster, so events cannot be read in commit order."""

    def __init__(self) -> None:
        super().__init__(
            "the event store was restored from a dump into another Postgres cluster: "
            "stop every process and run `python -m migrations restored`"
        )


@dataclass(frozen=True, order=True)
class Position:
    """An offset in the event store: transaction id, then row id.

    The row id alone is not enough: a sequence value is taken before the commit, so a lower one may commit later.
    """

    tx_id: int = 0
    id: int = 0


@dataclass(frozen=True)
class Range:
    """Stored events: those after a place up to another, of a time, of an aggregate, and of types; all of it at once."""

    after: Position = field(default_factory=Position)
    up_to: Position | None = None
    since: datetime | None = None
    """The earliest timestamp."""
    until: datetime | None = None
    """The timestamp before which they are."""
    aggregate_id: UUID | None = None
    types: tuple[str, ...] = ()


@dataclass(frozen=True)
class RecordedCommand:
    """The stored result of a command: `answer` when it was done, `problem` when it was refused."""

    command_id: UUID
    type: str
    user_id: UUID
    aggregate_id: UUID
    person_id: UUID
    """The person with whose key the answer is encrypted."""
    fingerprint: str | None
    status: str
    answer: dict[str, Any] | None
    problem: dict[str, Any] | None
    started_at: datetime
    finished_at: datetime


def message_of(row: Mapping[Any, Any]) -> dict[str, Any]:
    """An event's row as the message that is published: camelCase, personal fields still encrypted.

    `timestamp` or `data` is None where Python cannot decode the stored value.
    """
    return {
        "eventId": str(row["event_id"]),
        "aggregateId": row["aggregate_id"],
        "userId": row["user_id"],
        "tenantId": row["tenant_id"],
        "eventType": row["event_type"],
        "timestamp": row["timestamp"].isoformat().replace("+00:00", "Z") if row["timestamp"] else None,
        "version": row["version"],
        "schemaVersion": row["schema_version"],
        "commandId": str(row["command_id"]),
        "data": _decoded(row["event_data"]),
    }


def _decoded(data: str) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return None


def event_row(event: Event, sealed_data: dict[str, Any]) -> Write:
    """The row of an event to insert. A concurrent write of the same version violates `event_store_version_key`."""
    values = {
        "event_id": event.event_id,
        "aggregate_id": str(event.aggregate_id),
        "user_id": str(event.user_id),
        "event_type": event.event_type,
        "event_data": sealed_data,
        "timestamp": event.timestamp,
        "version": event.version,
        "tenant_id": event.tenant_id,
        "schema_version": event.schema_version,
        "command_id": event.command_id,
    }
    return Write(event_store, values)


_STORE_OBSERVATIONS = text("""
    INSERT INTO user_history.event_store
        (event_id, aggregate_id, user_id, event_type, event_data, timestamp, version, tenant_id, schema_version,
         command_id)
    SELECT event_id, aggregate_id, user_id, event_type, event_data, timestamp, 0, tenant_id, schema_version, command_id
    FROM jsonb_to_recordset(:events) AS event
        (event_id uuid, aggregate_id text, user_id text, event_type text, event_data jsonb, timestamp timestamptz,
         tenant_id text, schema_version integer, command_id uuid)
    ORDER BY event_id
    ON CONFLICT (event_id) DO NOTHING
""").bindparams(bindparam("events", type_=JSONB))


async def store_observations(connection: AsyncConnection, events: Sequence[Event]) -> None:
    """Insert observations by one statement; those that are stored already are skipped.

    Rows are inserted in the order of their ids, so that two batches with common events cannot deadlock.
    """
    rows = [
        {
            **event.model_dump(mode="json", exclude={"data", "version"}),
            "event_data": event.data.model_dump(mode="json", by_alias=True),
        }
        for event in events
    ]
    await connection.execute(_STORE_OBSERVATIONS, {"events": rows})


def command_row(
    command: Command,
    person_id: UUID,
    *,
    answer: dict[str, Any] | None = None,
    problem: dict[str, Any] | None = None,
) -> Write:
    """The row of a command to insert: its answer, encrypted with the key of `person_id`, or the problem."""
    values = {
        "tenant_id": command.tenant_id,
        "command_id": command.command_id,
        "type": command.type,
        "user_id": command.user_id,
        "aggregate_id": command.aggregate_id,
        "person_id": person_id,
        "fingerprint": command.fingerprint,
        "status": "COMPLETED" if problem is None else "REFUSED",
        "answer": answer,
        "problem": problem,
        "started_at": command.issued_at,
    }
    return Write(commands, values)


# Observations have version 0. With the constant in the query Postgres can use the partial index
# `event_store_version_key`, which excludes them: a listing may have a million views beside its few events.
_CHANGED_AGGREGATE = event_store.c.version > sa.literal_column("0")
# Statements that every command runs are built once: building one costs as much as running it.
_RECORDED = select(*(commands.c[name] for name in RecordedCommand.__dataclass_fields__)).where(
    commands.c.command_id == bindparam("command_id")
)
_UNPUBLISHED_OF = (
    select(*MESSAGE_COLUMNS)
    .where(
        event_store.c.tenant_id == bindparam("tenant_id"),
        event_store.c.aggregate_id == bindparam("aggregate_id"),
        _CHANGED_AGGREGATE,
        event_store.c.version > bindparam("after_version"),
        event_store.c.version <= bindparam("up_to_version"),
        event_store.c.published_at.is_(None),
    )
    .order_by(event_store.c.version)
    .limit(bindparam("limit"))
)
_UNPUBLISHED_OF_SOME = (
    select(*MESSAGE_COLUMNS)
    .where(
        event_store.c.tenant_id == bindparam("tenant_id"),
        event_store.c.aggregate_id == any_(bindparam("aggregate_ids", type_=ARRAY(Text))),
        _CHANGED_AGGREGATE,
        event_store.c.published_at.is_(None),
    )
    .order_by(event_store.c.id)
)
_UNPUBLISHED_OF_COMMAND = (
    select(*MESSAGE_COLUMNS)
    .where(
        event_store.c.tenant_id == bindparam("tenant_id"),
        event_store.c.command_id == bindparam("command_id"),
        event_store.c.published_at.is_(None),
    )
    .order_by(event_store.c.id)
)
_MARK_PUBLISHED = (
    update(event_store)
    .where(
        event_store.c.event_id == any_(bindparam("event_ids", type_=ARRAY(Uuid))),
        event_store.c.published_at.is_(None),
    )
    .values(published_at=func.now())
)


async def recorded_command(tx: AsyncConnection, command_id: UUID) -> RecordedCommand | None:
    """The stored result of a command of the transaction's tenant; None while it has none."""
    row = (await tx.execute(_RECORDED, {"command_id": command_id})).one_or_none()
    return RecordedCommand(**row._mapping) if row else None


async def of_aggregate(
    tx: AsyncConnection, aggregate_id: UUID, *, after_version: int = 0, limit: int
) -> list[dict[str, Any]]:
    """Messages of an aggregate of the transaction's tenant, ordered by version."""
    query = select(*MESSAGE_COLUMNS).where(
        event_store.c.aggregate_id == str(aggregate_id), _CHANGED_AGGREGATE, event_store.c.version > after_version
    )
    rows = await tx.execute(query.order_by(event_store.c.version).limit(limit))
    return [message_of(row._mapping) for row in rows]


async def owner_of_deleted(tx: AsyncConnection, property_id: UUID) -> UUID | None:
    """The owner of a deleted listing; None for one that is not deleted or does not exist."""
    query = select(event_store.c.event_data["ownerId"].astext).where(
        event_store.c.aggregate_id == str(property_id),
        _CHANGED_AGGREGATE,
        event_store.c.event_type == "PROPERTY_DELETED",
    )
    owner = (await tx.execute(query)).scalar_one_or_none()
    return UUID(owner) if owner else None


async def of_command(tx: AsyncConnection, command_id: UUID) -> list[sa.Row[*tuple[Any, ...]]]:
    """Id, type and time of publication of the events that a command stored, ordered by version."""
    query = select(event_store.c.event_id, event_store.c.event_type, event_store.c.published_at)
    rows = await tx.execute(query.where(event_store.c.command_id == command_id).order_by(event_store.c.version))
    return list(rows)


async def unpublished_of(
    tx: AsyncConnection, tenant_id: str, aggregate_id: UUID, *, after_version: int, up_to_version: int, limit: int
) -> list[dict[str, Any]]:
    """Up to `limit` unpublished messages of an aggregate, ordered by version."""
    which = {
        "tenant_id": tenant_id,
        "aggregate_id": str(aggregate_id),
        "after_version": after_version,
        "up_to_version": up_to_version,
        "limit": limit,
    }
    return [message_of(row._mapping) for row in await tx.execute(_UNPUBLISHED_OF, which)]


async def unpublished_of_some(
    tx: AsyncConnection, tenant_id: str, aggregate_ids: Sequence[UUID]
) -> list[dict[str, Any]]:
    """Unpublished messages of some aggregates, those of each ordered by version."""
    which = {"tenant_id": tenant_id, "aggregate_ids": [str(aggregate_id) for aggregate_id in aggregate_ids]}
    return [message_of(row._mapping) for row in await tx.execute(_UNPUBLISHED_OF_SOME, which)]


async def unpublished_of_command(tx: AsyncConnection, tenant_id: str, command_id: UUID) -> list[dict[str, Any]]:
    """Unpublished messages of one command, ordered by id."""
    which = {"tenant_id": tenant_id, "command_id": command_id}
    return [message_of(row._mapping) for row in await tx.execute(_UNPUBLISHED_OF_COMMAND, which)]


async def unpublished_before(
    tx: AsyncConnection, moment: datetime, *, after_id: int = 0, limit: int
) -> list[tuple[int, dict[str, Any]]]:
    """A page of unpublished messages of every tenant that are older than `moment`, ordered by id, with their ids.

    `after_id` is the last id of the previous page.
    """
    query = select(event_store.c.id, *MESSAGE_COLUMNS).where(
        event_store.c.published_at.is_(None), event_store.c.timestamp < moment, event_store.c.id > after_id
    )
    rows = await tx.execute(query.order_by(event_store.c.id).limit(limit))
    return [(row.id, message_of(row._mapping)) for row in rows]


async def mark_published(tx: AsyncConnection, event_ids: Sequence[UUID]) -> None:
    """Set `published_at`, the one column of the store that may be updated."""
    await tx.execute(_MARK_PUBLISHED, {"event_ids": list(event_ids)})


async def mark_unpublished(tx: AsyncConnection, event_ids: Sequence[UUID]) -> None:
    """Clear `published_at`, so that reconcile publishes the events again."""
    if event_ids:
        published = event_store.c.event_id.in_(event_ids), event_store.c.published_at.is_not(None)
        await tx.execute(update(event_store).where(*published).values(published_at=None))


async def by_id(tx: AsyncConnection, event_id: UUID) -> dict[str, Any] | None:
    """The message of one event of the transaction's tenant."""
    row = (await tx.execute(select(*MESSAGE_COLUMNS).where(event_store.c.event_id == event_id))).one_or_none()
    return message_of(row._mapping) if row else None


async def of_user(
    tx: AsyncConnection, user_id: UUID, *, cursor: tuple[datetime, UUID] | None, limit: int
) -> list[dict[str, Any]]:
    """Messages of a user's events, newest first; with a `cursor` (time and event id), those that are older."""
    query = select(*MESSAGE_COLUMNS).where(event_store.c.user_id == str(user_id), HAS_TIME)
    if cursor:
        query = query.where(tuple_(event_store.c.timestamp, event_store.c.event_id) < tuple_(*cursor))
    newest_first = query.order_by(event_store.c.timestamp.desc(), event_store.c.event_id.desc())
    return [message_of(row._mapping) for row in await tx.execute(newest_first.limit(limit))]


_READ = """
    SELECT id, CAST(CAST(tx_id AS text) AS bigint) AS tx, event_id, aggregate_id, user_id, tenant_id,
           event_type, CASE WHEN timestamp BETWEEN '0001-01-02 Z' AND '9999-12-30 Z' THEN timestamp END AS timestamp,
           version, schema_version, command_id, CAST(event_data AS text) AS event_data
    FROM user_history.event_store
    WHERE (tx_id, id) > (CAST(CAST(:tx_id AS text) AS xid8), :id) AND {which}
    ORDER BY tx_id, id
    LIMIT :limit
"""
_TYPES = {"event_id": Uuid, "command_id": Uuid}
# Events are settled below `pg_snapshot_xmin`: all those transactions have ended, so no event can still appear there.
_SETTLED = text(_READ.format(which="tx_id < pg_snapshot_xmin(pg_current_snapshot())")).columns(**_TYPES)
_SINCE = """
    tx_id >= pg_snapshot_xmin(CAST(CAST(:since AS text) AS pg_snapshot))
    AND NOT pg_visible_in_snapshot(tx_id, CAST(CAST(:since AS text) AS pg_snapshot))
"""
_UNTIL = "pg_visible_in_snapshot(tx_id, CAST(CAST(:until AS text) AS pg_snapshot))"
_VISIBLE_BETWEEN = {
    (bool(since), bool(until)): text(_READ.format(which=" AND ".join(filter(None, (since, until))) or "true")).columns(
        **_TYPES
    )
    for since in ("", _SINCE)
    for until in ("", _UNTIL)
}

_SAME_CLUSTER = text(
    "SELECT stored.system_identifier = this.system_identifier"
    " FROM user_history.event_store_cluster stored, pg_control_system() this"
)


async def ensure_renumbered(connection: AsyncConnection) -> None:
    """Raises NotRenumbered unless the stored transaction ids are of this cluster."""
    if not (await connection.execute(_SAME_CLUSTER)).scalar_one_or_none():
        raise NotRenumbered


async def in_order(tx: AsyncConnection, after: Position, limit: int) -> list[tuple[Position, dict[str, Any]]]:
    """The next settled events of every tenant after `after`, in an order that is the same for every reader.

    Raises NotRenumbered: on a restored store a checkpoint would skip events permanently.
    """
    await ensure_renumbered(tx)
    rows = await tx.execute(_SETTLED, {"tx_id": str(after.tx_id), "id": after.id, "limit": limit})
    return [(Position(row.tx, row.id), message_of(row._mapping)) for row in rows]


_WINDOW = 50_000
"""Events that one query of a range looks at, some 0.1 s: those that match may be rare, and Postgres ends a statement
that takes too long.
"""
_END_OF_WINDOW = text("""
    SELECT CAST(CAST(tx_id AS text) AS bigint) AS tx, id FROM (
        SELECT tx_id, id FROM user_history.event_store
        WHERE (tx_id, id) > (CAST(CAST(:tx_id AS text) AS xid8), :id)
            AND tx_id < pg_snapshot_xmin(pg_current_snapshot())
        ORDER BY tx_id, id LIMIT :window
    ) AS "window"
    ORDER BY tx_id DESC, id DESC LIMIT 1
""")


async def of_range(
    tx: AsyncConnection, which: Range, after: Position, limit: int
) -> tuple[list[tuple[Position, dict[str, Any]]], Position | None]:
    """The next settled events of a range after `after`, as they were stored, and where to go on; None at the end.

    There may be fewer than `limit`, or none, before the end. Raises NotRenumbered.
    """
    await ensure_renumbered(tx)
    start = {"tx_id": str(after.tx_id), "id": after.id}
    end = None
    if which.aggregate_id is None:
        window = (await tx.execute(_END_OF_WINDOW, {**start, "window": _WINDOW})).one_or_none()
        if window is None:
            return [], None
        end = Position(window.tx, window.id)
    conditions, values = _conditions(which, min(filter(None, (end, which.up_to)), default=None))
    statement = text(_READ.format(which=" AND ".join(conditions))).columns(**_TYPES)
    rows = list(await tx.execute(statement, {**start, "limit": limit, **values}))
    events = [(Position(row.tx, row.id), message_of(row._mapping)) for row in rows]
    if len(events) == limit:
        return events, events[-1][0]
    return events, None if which.up_to and end and end >= which.up_to else end


def _conditions(which: Range, up_to: Position | None) -> tuple[list[str], dict[str, Any]]:
    """The SQL conditions of a range, which ends with `up_to`, and their values."""
    conditions, values = ["tx_id < pg_snapshot_xmin(pg_current_snapshot())"], dict[str, Any]()
    if up_to is not None:
        conditions.append("(tx_id, id) <= (CAST(CAST(:up_to_tx AS text) AS xid8), :up_to_id)")
        values |= {"up_to_tx": str(up_to.tx_id), "up_to_id": up_to.id}
    if which.since is not None:
        conditions.append("timestamp >= :since")
        values["since"] = which.since
    if which.until is not None:
        conditions.append("timestamp < :until")
        values["until"] = which.until
    if which.aggregate_id is not None:
        conditions.append("aggregate_id = :aggregate_id")
        values["aggregate_id"] = str(which.aggregate_id)
    if which.types:
        conditions.append("event_type = ANY(:types)")
        values["types"] = list(which.types)
    return conditions, values


async def settled_below(tx: AsyncConnection) -> int:
    """The lowest transaction id that may still be open; events of lower ones are settled, and `in_order` reads them."""
    query = text("SELECT CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS bigint)")
    below: int = (await tx.execute(query)).scalar_one()
    return below


async def checkpoint(tx: AsyncConnection, name: str) -> Position:
    """The checkpoint of a reader; before the first event when it has none."""
    row = (await tx.execute(select(checkpoints).where(checkpoints.c.name == name))).one_or_none()
    return Position(row.tx_id, row.id) if row else Position()


async def move_checkpoint(tx: AsyncConnection, name: str, to: Position) -> None:
    """Move the checkpoint of a reader forward; one that another process moved further stays."""
    place = {"tx_id": to.tx_id, "id": to.id, "updated_at": func.now()}
    newer = tuple_(checkpoints.c.tx_id, checkpoints.c.id) < tuple_(to.tx_id, to.id)
    record = insert(checkpoints).values(name=name, **place)
    await tx.execute(record.on_conflict_do_update(index_elements=["name"], set_=place, where=newer))


async def current_snapshot(tx: AsyncConnection) -> str:
    """The current `pg_snapshot` as text: which transactions are visible now."""
    snapshot: str = (await tx.execute(text("SELECT CAST(pg_current_snapshot() AS text)"))).scalar_one()
    return snapshot


async def visible_between(
    tx: AsyncConnection, since: str | None, until: str | None, after: Position, limit: int
) -> list[tuple[Position, dict[str, Any]]]:
    """Events after `after` that are visible in the snapshot `until` (None: the current one) but not in `since`
    (None: an empty one).

    Unlike `in_order` it does not stop at open transactions: what they commit later is not visible in `until`, so the
    next call, with `until` as its `since`, returns it.
    """
    bounds = {name: snapshot for name, snapshot in (("since", since), ("until", until)) if snapshot is not None}
    where = {"tx_id": str(after.tx_id), "id": after.id, "limit": limit, **bounds}
    rows = await tx.execute(_VISIBLE_BETWEEN["since" in bounds, "until" in bounds], where)
    return [(Position(row.tx, row.id), message_of(row._mapping)) for row in rows]
