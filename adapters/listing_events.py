"""Reads of the events of listings, by which rounds of saved searches judge what they find."""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import ARRAY, Text, bindparam, text
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.events import WHOLE_PROPERTY
from domain.matching import Gone, Listed, Step, likeness_of
from domain.property_status import PropertyStatus

_MAX_LOOKED_AT = 1_000
"""Listings that are looked at to find relistings. Only an owner who deletes a thousand a month has more."""
_GONE = {PropertyStatus.WITHDRAWN, PropertyStatus.PAUSED, PropertyStatus.EXPIRED, PropertyStatus.REJECTED}
_LONG_AGO = datetime.min.replace(tzinfo=UTC)
"""Older releases did not write when a listing was listed."""

_STEPS = text("""
SELECT aggregate_id, version, timestamp, event_data->>'status' AS status, event_data->>'price' AS price
FROM user_history.event_store
WHERE tenant_id = :tenant_id AND aggregate_id = ANY(:ids) AND version > 0 AND event_type = ANY(:types)
ORDER BY aggregate_id, version
""").bindparams(bindparam("ids", type_=ARRAY(Text)), bindparam("types", type_=ARRAY(Text)))
# By user, for which there is an index with the time. What an administrator has deleted is not found.
_LEFT = text("""
SELECT aggregate_id, max(timestamp) AS at, bool_or(event_type = 'PROPERTY_DELETED') AS deleted
FROM user_history.event_store
WHERE user_id = ANY(:owners) AND timestamp >= :since
  AND (event_type = 'PROPERTY_DELETED'
    OR event_type = 'PROPERTY_STATUS_CHANGED' AND event_data->>'status' = ANY(:statuses))
GROUP BY aggregate_id ORDER BY at DESC LIMIT :most
""").bindparams(bindparam("owners", type_=ARRAY(Text)), bindparam("statuses", type_=ARRAY(Text)))
_LAST = text("""
SELECT DISTINCT ON (aggregate_id) aggregate_id, event_data
FROM user_history.event_store
WHERE tenant_id = :tenant_id AND aggregate_id = ANY(:ids) AND version > 0 AND event_type = ANY(:types)
ORDER BY aggregate_id, version DESC
""").bindparams(bindparam("ids", type_=ARRAY(Text)), bindparam("types", type_=ARRAY(Text)))
_CREATED = text("""
SELECT aggregate_id, timestamp, event_data
FROM user_history.event_store
WHERE user_id = ANY(:owners) AND timestamp >= :since AND event_type = 'PROPERTY_CREATED'
ORDER BY timestamp DESC LIMIT :most
""").bindparams(bindparam("owners", type_=ARRAY(Text)))


async def steps_of(
    connection: AsyncConnection, tenant_id: str, property_ids: Sequence[UUID]
) -> dict[UUID, tuple[Step, ...]]:
    """Status and price of listings after each of their events."""
    wanted = {"tenant_id": tenant_id, "ids": [str(id) for id in property_ids], "types": list(WHOLE_PROPERTY)}
    found: dict[UUID, list[Step]] = {}
    for row in await connection.execute(_STEPS, wanted):
        # Events of the seven services may have no status, and prices as decimals.
        step = Step(row.timestamp, row.status or PropertyStatus.ACTIVE.value, round(float(row.price)), row.version)
        found.setdefault(UUID(row.aggregate_id), []).append(step)
    return {id: tuple(steps) for id, steps in found.items()}


async def gone_of(connection: AsyncConnection, tenant_id: str, owners: Collection[str], since: datetime) -> list[Gone]:
    """The listings that owners have deleted or withdrawn since `since`; not those that are sold or let, or a draft."""
    wanted = {"owners": list(owners), "since": since, "statuses": sorted(_GONE), "most": _MAX_LOOKED_AT}
    left = {row.aggregate_id: row for row in await connection.execute(_LEFT, wanted)} if owners else {}
    if not left:
        return []
    last = await connection.execute(_LAST, {"tenant_id": tenant_id, "ids": list(left), "types": list(WHOLE_PROPERTY)})
    gone = []
    for row in last:
        facts, ending = row.event_data, left[row.aggregate_id]
        status = facts.get("status", PropertyStatus.ACTIVE)
        if status in _GONE or (ending.deleted and status == PropertyStatus.ACTIVE):
            listed_at = datetime.fromisoformat(facts["listedAt"]) if facts.get("listedAt") else _LONG_AGO
            likeness, price = likeness_of(facts, str(facts["ownerId"])), round(float(facts["price"]))
            gone.append(Gone(UUID(row.aggregate_id), likeness, price, listed_at, ending.at))
    return gone


async def created_by(connection: AsyncConnection, owners: Collection[str], since: datetime) -> list[Listed]:
    """What owners have listed since `since`, the newest, with the facts of then."""
    wanted = {"owners": list(owners), "since": since, "most": _MAX_LOOKED_AT}
    return [
        Listed(UUID(row.aggregate_id), likeness_of(row.event_data, str(row.event_data["ownerId"])), row.timestamp)
        for row in await connection.execute(_CREATED, wanted)
    ]
