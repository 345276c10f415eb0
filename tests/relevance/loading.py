"""Loading listings into a search as its projection does from Kafka."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any
from uuid import UUID

from adapters.postgres import Database
from domain import ids
from domain.events import Event
from domain.property_events import PropertyCreated
from domain.property_status import PropertyStatus
from domain.roles import UserRole
from projections.generations import generation_of
from projections.projection import Projection

_BATCH = 500
"""Events of a transaction, as many as the sink of a projection writes at once."""
_SINCE = datetime(2026, 1, 1, tzinfo=UTC)


def saved(tenant_id: str, listings: Iterable[dict[str, Any]]) -> Iterator[Event]:
    """The creation of each listing, a second after the one before; the same ids for the same tenant."""
    for n, facts in enumerate(listings):
        at = _SINCE + timedelta(seconds=n)
        property_id = ids.uuid7(int(at.timestamp() * 1000), n.to_bytes(10))
        owner_id = UUID(int=n % 100 + 1)
        yield Event(
            event_id=ids.event_id(property_id, 1),
            aggregate_id=property_id,
            user_id=owner_id,
            tenant_id=tenant_id,
            event_type="PROPERTY_CREATED",
            timestamp=at,
            version=1,
            schema_version=1,
            command_id=property_id,
            data=PropertyCreated.model_validate(
                {
                    **facts,
                    "propertyId": property_id,
                    "ownerId": owner_id,
                    "status": PropertyStatus.ACTIVE,
                    "postedBy": list(UserRole)[n % 3],
                    "createdAt": at,
                    "listedAt": at,
                }
            ),
        )


async def load(database: Database, projection: Projection[Any], events: Iterable[Any]) -> int:
    """Apply events, as the projection reads them, in batches; returns how many. `database` is that of all tenants."""
    waiting, loaded = iter(events), 0
    while batch := list(islice(waiting, _BATCH)):
        async with database.transaction() as tx:
            await projection.apply(tx, batch, await generation_of(tx, projection.name))
        loaded += len(batch)
    return loaded
