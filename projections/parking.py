"""Parked events: what cannot be applied, set aside with everything behind it of the same key until an operator acts."""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.tables import parked_events

BEHIND_ANOTHER = "waits behind a parked event of the same key"


@dataclass(frozen=True)
class Parcel:
    """A message as it came from Kafka."""

    topic: str
    key: str
    value: bytes


async def parked_keys(tx: AsyncConnection, projection: str, keys: Collection[str]) -> set[str]:
    """Those of `keys` that have something parked."""
    query = select(parked_events.c.key).where(
        parked_events.c.projection == projection, parked_events.c.key.in_(list(keys))
    )
    return {row.key for row in await tx.execute(query.distinct())}


async def park(tx: AsyncConnection, projection: str, parcels: Sequence[tuple[Parcel, str]]) -> None:
    """Set messages aside, each with its reason; the same message is kept once."""
    rows = [
        {
            "projection": projection,
            "topic": parcel.topic,
            "key": parcel.key,
            "payload": parcel.value,
            "digest": hashlib.sha256(parcel.key.encode() + b"\0" + parcel.value).digest(),
            "reason": reason,
        }
        for parcel, reason in parcels
    ]
    await tx.execute(insert(parked_events).on_conflict_do_nothing(), rows)


async def all_parked(tx: AsyncConnection, projection: str, key: str | None = None) -> list[Row[Any]]:
    """Parked messages in the order of their parking."""
    query = select(parked_events).where(parked_events.c.projection == projection)
    if key is not None:
        query = query.where(parked_events.c.key == key)
    return list(await tx.execute(query.order_by(parked_events.c.id)))


async def forget(tx: AsyncConnection, ids: Sequence[int]) -> None:
    """Take messages out of the park."""
    await tx.execute(delete(parked_events).where(parked_events.c.id.in_(ids)))
