"""Parked events (a dead letter table): those that cannot be applied, and later ones of the same key, kept in order."""

import hashlib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import ARRAY, Row, String, any_, bindparam, delete, func, literal, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.tables import discarded_events, parked_events

_TENANT = re.compile("[a-z][a-z0-9-]{0,62}")
EARLIER_EVENT_PARKED = "an earlier event of the same key is parked"


@dataclass(frozen=True)
class ConsumedMessage:
    """A message as it was consumed from Kafka."""

    topic: str
    key: str
    value: bytes
    event_id: str = ""
    """From the header `ce_id`; empty when it is absent."""
    tenant_id: str = ""
    """From the header `ce_source`; empty when it is absent."""


async def blocked_keys(tx: AsyncConnection, projection: str, keys: Collection[str]) -> set[str]:
    """Those of `keys` that have parked events, which are locked until `tx` ends.

    Without the lock, an operator could delete the last parked event of a key while `tx` parks another one because of
    it, and the key would stay blocked.
    """
    query = select(parked_events.c.key).where(
        parked_events.c.projection == projection, parked_events.c.key.in_(list(keys))
    )
    # Always locked in the same order, to avoid deadlocks.
    locked = query.order_by(parked_events.c.id).with_for_update(read=True, key_share=True)
    return {row.key for row in await tx.execute(locked)}


async def park(tx: AsyncConnection, projection: str, messages: Sequence[tuple[ConsumedMessage, str]]) -> None:
    """Park messages, each with its reason. A message is parked once, also if its JSON fields come in another order."""
    rows = [
        {
            "projection": projection,
            "topic": message.topic,
            "key": message.key,
            "payload": message.value,
            "digest": hashlib.sha256(message.key.encode() + b"\0" + _with_sorted_fields(message.value)).digest(),
            "reason": reason,
            "tenant_id": _tenant_of(message),
        }
        for message, reason in messages
    ]
    await tx.execute(insert(parked_events).on_conflict_do_nothing(), rows)


def _tenant_of(message: ConsumedMessage) -> str:
    """The tenant that the headers of a message name, or its JSON; empty when neither does."""
    tenant: object = message.tenant_id
    if not tenant:
        try:
            tenant = orjson.loads(message.value).get("tenantId")
        except (orjson.JSONDecodeError, AttributeError):
            return ""
    return tenant if isinstance(tenant, str) and _TENANT.fullmatch(tenant) else ""


def _with_sorted_fields(value: bytes) -> bytes:
    """A message with its JSON fields sorted, because JSONB does not keep their order; other messages unchanged."""
    try:
        return orjson.dumps(orjson.loads(value), option=orjson.OPT_SORT_KEYS)
    except orjson.JSONDecodeError:
        return value


async def list_parked(tx: AsyncConnection, projection: str, key: str | None = None) -> list[Row[Any]]:
    """A projection's parked events, oldest first."""
    query = select(parked_events).where(parked_events.c.projection == projection)
    if key is not None:
        query = query.where(parked_events.c.key == key)
    return list(await tx.execute(query.order_by(parked_events.c.id)))


async def page_of_parked(
    tx: AsyncConnection, projection: str, tenants: Collection[str], after_id: int, limit: int
) -> list[Row[Any]]:
    """A projection's parked events of these tenants, oldest first, after the one with the id `after_id`."""
    of_tenants = parked_events.c.projection == projection, parked_events.c.tenant_id.in_(list(tenants))
    query = select(parked_events).where(*of_tenants, parked_events.c.id > after_id)
    return list(await tx.execute(query.order_by(parked_events.c.id).limit(limit)))


async def count_parked(tx: AsyncConnection, tenants: Collection[str]) -> dict[str, int]:
    """How many events of these tenants are parked, by projection."""
    query = select(parked_events.c.projection, func.count().label("parked"))
    of_tenants = query.where(parked_events.c.tenant_id.in_(list(tenants)))
    return {row.projection: row.parked for row in await tx.execute(of_tenants.group_by(parked_events.c.projection))}


async def find_parked(
    tx: AsyncConnection, parked_id: int, tenants: Collection[str] | None = None, projection: str | None = None
) -> Row[Any] | None:
    """The parked event with this id; of any projection and any tenant, unless they are given."""
    query = select(parked_events).where(parked_events.c.id == parked_id)
    if tenants is not None:
        query = query.where(parked_events.c.tenant_id.in_(list(tenants)))
    if projection is not None:
        query = query.where(parked_events.c.projection == projection)
    return (await tx.execute(query)).one_or_none()


async def parked_keys(tx: AsyncConnection, projection: str) -> list[str]:
    """Every key that has parked events."""
    query = select(parked_events.c.key).where(parked_events.c.projection == projection)
    return [row.key for row in await tx.execute(query.distinct().order_by(parked_events.c.key))]


async def lock_first_of_key(tx: AsyncConnection, projection: str, key: str, limit: int) -> list[Row[Any]]:
    """Lock the first parked events of a key until `tx` ends; meanwhile no more are parked for it."""
    query = select(parked_events).where(parked_events.c.projection == projection, parked_events.c.key == key)
    return list(await tx.execute(query.order_by(parked_events.c.id).limit(limit).with_for_update()))


async def count_of_key(tx: AsyncConnection, projection: str, key: str) -> int:
    """How many events of a key are parked."""
    query = select(func.count()).where(parked_events.c.projection == projection, parked_events.c.key == key)
    count: int = (await tx.execute(query)).scalar_one()
    return count


async def delete_parked(tx: AsyncConnection, projection: str, ids: Sequence[int]) -> list[str]:
    """Delete parked events of a projection; returns their keys."""
    of_projection = parked_events.c.projection == projection
    query = delete(parked_events).where(of_projection, parked_events.c.id.in_(ids)).returning(parked_events.c.key)
    return [row.key for row in await tx.execute(query)]


async def record_discarded(tx: AsyncConnection, parked: Row[Any], reason: str, by: UUID | None) -> None:
    """Record why an operator discards a parked event: an administrator `by`, or None at the command line."""
    copied = {name: getattr(parked, name) for name in ("id", "tenant_id", "projection", "topic", "key", "parked_at")}
    values = {
        **copied,
        "event_id": _event_id_in(parked.payload),
        "parked_because": parked.reason,
        "reason": reason,
        "discarded_by": by,
    }
    await tx.execute(insert(discarded_events).values(values))


def _event_id_in(value: bytes) -> str:
    try:
        event_id = orjson.loads(value).get("eventId")
    except (orjson.JSONDecodeError, AttributeError):
        return ""
    return event_id[:255] if isinstance(event_id, str) else ""


async def discarded_among(tx: AsyncConnection, projection: str, event_ids: Collection[str]) -> set[str]:
    """Those of the events that an operator discarded from a projection: it does without them from then on."""
    query = select(discarded_events.c.event_id).where(
        discarded_events.c.projection == projection,
        discarded_events.c.event_id == any_(bindparam("event_ids", [*filter(None, event_ids)], type_=ARRAY(String))),
    )
    return {row.event_id for row in await tx.execute(query)}


async def page_of_discarded(
    tx: AsyncConnection, projection: str, tenants: Collection[str] | None, before_id: int | None, limit: int
) -> list[Row[Any]]:
    """A projection's discarded events of these tenants (None: of every one), the last parked first."""
    query = select(discarded_events).where(discarded_events.c.projection == projection)
    if tenants is not None:
        query = query.where(discarded_events.c.tenant_id.in_(list(tenants)))
    if before_id is not None:
        query = query.where(discarded_events.c.id < before_id)
    return list(await tx.execute(query.order_by(discarded_events.c.id.desc()).limit(limit)))


async def delete_all_parked(tx: AsyncConnection, prefix: str) -> None:
    """Delete the parked events of every name that begins so."""
    await tx.execute(delete(parked_events).where(parked_events.c.projection.startswith(prefix, autoescape=True)))


async def move_parked(tx: AsyncConnection, name: str, to: str) -> None:
    """Park the events of one name under another; those that are parked there already stay as they are.

    Those that were discarded there meanwhile are deleted.
    """
    discarded = select(parked_events.c.id, parked_events.c.payload, discarded_events.c.event_id).where(
        parked_events.c.projection == name,
        parked_events.c.key == discarded_events.c.key,
        discarded_events.c.projection == to,
    )
    found = [row for row in await tx.execute(discarded) if row.event_id and _event_id_in(row.payload) == row.event_id]
    await delete_parked(tx, name, [row.id for row in found])
    copied = [column for column in parked_events.c if column.name not in {"id", "projection"}]
    rows = select(literal(to), *copied).where(parked_events.c.projection == name).order_by(parked_events.c.id)
    columns = ["projection", *(column.name for column in copied)]
    await tx.execute(insert(parked_events).from_select(columns, rows).on_conflict_do_nothing())
    await tx.execute(delete(parked_events).where(parked_events.c.projection == name))
