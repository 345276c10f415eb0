"""Listings of one owner at the same place with the same unit, which may be the same property listed twice."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import ARRAY, Uuid, any_, bindparam, select
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.tables import properties
from domain.property_status import PropertyStatus

_MOST = 20
"""Of one listing: with more of them it is no mistake of one row."""
_GONE = (PropertyStatus.SOLD, PropertyStatus.RENTED, PropertyStatus.WITHDRAWN, PropertyStatus.EXPIRED)
"""The same flat may be listed again after these."""
_THIS = properties.alias("this")
_OTHER = properties.alias("other")
_DUPLICATES = (
    select(_THIS.c.property_id, _OTHER.c.property_id.label("other_id"))
    .join(
        _OTHER,
        (_OTHER.c.tenant_id == _THIS.c.tenant_id)
        & (_OTHER.c.owner_id == _THIS.c.owner_id)
        & (_OTHER.c.place_key == _THIS.c.place_key)
        & (_OTHER.c.property_id != _THIS.c.property_id)
        & _OTHER.c.status.not_in(_GONE),
    )
    .where(
        _THIS.c.property_id == any_(bindparam("property_ids", type_=ARRAY(Uuid))),
        _THIS.c.owner_id == bindparam("owner_id"),
        _THIS.c.status.not_in(_GONE),
    )
    .order_by(_OTHER.c.created_at, _OTHER.c.property_id)
)


async def among(connection: AsyncConnection, owner_id: UUID, property_ids: Sequence[UUID]) -> dict[UUID, list[UUID]]:
    """The possible duplicates of some listings of an owner of the connection's tenant, the oldest of each first."""
    found: dict[UUID, list[UUID]] = {}
    if property_ids:
        for row in await connection.execute(_DUPLICATES, {"owner_id": owner_id, "property_ids": property_ids}):
            others = found.setdefault(row.property_id, [])
            if len(others) < _MOST:
                others.append(row.other_id)
    return found
