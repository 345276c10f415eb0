"""Rows of many commands on listings, each table by one statement: they pass as JSON, of which Postgres makes rows."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, Text, Uuid, any_, bindparam, select, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.current_state import PROPERTY_STATE, property_of
from adapters.tables import commands, event_store, properties
from domain.command import Command, Saved
from domain.duplicates import place_key
from domain.events import Event
from domain.property import Property

_RECORDED = select(commands.c.command_id).where(
    commands.c.command_id == any_(bindparam("command_ids", type_=ARRAY(Uuid)))
)
_WITH_EVENTS = select(event_store.c.aggregate_id).where(
    event_store.c.tenant_id == bindparam("tenant_id"),
    event_store.c.aggregate_id == any_(bindparam("aggregate_ids", type_=ARRAY(Text))),
    event_store.c.version == 1,
)
_STATES = select(*PROPERTY_STATE).where(properties.c.property_id == any_(bindparam("property_ids", type_=ARRAY(Uuid))))
# In the order of `rows`, which is that of their versions: it is that of `event_store.id` too.
_EVENTS = text("""
    INSERT INTO user_history.event_store
        (event_id, aggregate_id, user_id, event_type, event_data, timestamp, version, tenant_id, schema_version,
         command_id)
    SELECT event_id, aggregate_id, user_id, event_type, event_data, timestamp, version, tenant_id, schema_version,
        command_id
    FROM ROWS FROM (jsonb_to_recordset(:rows) AS
        (event_id uuid, aggregate_id text, user_id text, event_type text, event_data jsonb, timestamp timestamptz,
         version bigint, tenant_id text, schema_version integer, command_id uuid)) WITH ORDINALITY
    ORDER BY ordinality
""").bindparams(bindparam("rows", type_=JSONB))
_COMMANDS = text("""
    INSERT INTO user_history.commands
        (tenant_id, command_id, type, user_id, aggregate_id, person_id, status, answer, started_at)
    SELECT tenant_id, command_id, type, user_id, aggregate_id, person_id, 'COMPLETED', answer, started_at
    FROM jsonb_to_recordset(:rows) AS command
        (tenant_id text, command_id uuid, type text, user_id uuid, aggregate_id uuid, person_id uuid, answer json,
         started_at timestamptz)
""").bindparams(bindparam("rows", type_=JSONB))
_PROPERTY_COLUMNS = [column.name for column in properties.c]
_SET = ", ".join(f"{name} = excluded.{name}" for name in _PROPERTY_COLUMNS if name not in {"tenant_id", "property_id"})
# Ordered by id, so that two batches with common listings cannot deadlock.
_PROPERTIES = text(
    f"""
    INSERT INTO property_management.properties ({", ".join(_PROPERTY_COLUMNS)})
    SELECT {", ".join(_PROPERTY_COLUMNS)}
    FROM jsonb_populate_recordset(CAST(NULL AS property_management.properties), :rows)
    ORDER BY property_id
    ON CONFLICT (tenant_id, property_id) DO UPDATE SET {_SET}
"""
).bindparams(bindparam("rows", type_=JSONB))


def event_values(event: Event, sealed_data: dict[str, Any]) -> dict[str, Any]:
    """The row of an event."""
    return {**event.model_dump(mode="json", exclude={"data"}), "event_data": sealed_data}


def property_values(tenant_id: str, state: Property) -> dict[str, Any]:
    """The row of a listing, with every column: those that are absent would be null."""
    values = state.model_dump(mode="json", exclude={"id", "images"})
    return {"tenant_id": tenant_id, "property_id": str(state.id), "place_key": place_key(state), **values}


def command_values(command: Command, person_id: UUID, saved: Saved) -> dict[str, Any]:
    """The row of a command that is done."""
    return {
        "tenant_id": command.tenant_id,
        "command_id": str(command.command_id),
        "type": command.type,
        "user_id": str(command.user_id),
        "aggregate_id": str(command.aggregate_id),
        "person_id": str(person_id),
        "answer": saved.model_dump(mode="json", by_alias=True),
        "started_at": command.issued_at.isoformat(),
    }


async def recorded(tx: AsyncConnection, command_ids: Sequence[UUID]) -> set[UUID]:
    """Those of some commands that are recorded."""
    return set((await tx.execute(_RECORDED, {"command_ids": command_ids})).scalars())


async def states_of(tx: AsyncConnection, property_ids: Sequence[UUID]) -> dict[UUID, Property]:
    """The states of some listings, by id; those that do not exist are absent."""
    rows = (await tx.execute(_STATES, {"property_ids": property_ids})).mappings()
    return {row["property_id"]: property_of(row) for row in rows}


async def with_events(tx: AsyncConnection, tenant_id: str, property_ids: Sequence[UUID]) -> set[UUID]:
    """Those of some listings that have events: without a row they are deleted."""
    if not property_ids:
        return set()
    which = {"tenant_id": tenant_id, "aggregate_ids": [str(property_id) for property_id in property_ids]}
    return {UUID(aggregate_id) for aggregate_id in (await tx.execute(_WITH_EVENTS, which)).scalars()}


async def insert_events(tx: AsyncConnection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert events. A concurrent write of the same version violates `event_store_version_key`."""
    await _write(tx, _EVENTS, rows)


async def write_properties(tx: AsyncConnection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert listings, or replace them."""
    await _write(tx, _PROPERTIES, rows)


async def insert_commands(tx: AsyncConnection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert commands. One that is recorded already violates `commands_pkey`."""
    await _write(tx, _COMMANDS, rows)


async def _write(tx: AsyncConnection, statement: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    if rows:
        await tx.execute(statement, {"rows": rows})
