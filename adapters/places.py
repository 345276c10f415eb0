"""The places of listings that were saved before there was a key of them."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, Text, Uuid, bindparam, func, literal_column, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.tables import properties
from domain.duplicates import place_key
from domain.property import PropertyDetails

_UNPLACED = properties.c.place_key == literal_column("'?'")  # in the words of the index
_OF_PLACE = [properties.c[name] for name in PropertyDetails.model_fields]
_KEYS = (
    func.unnest(bindparam("property_ids", type_=ARRAY(Uuid)), bindparam("keys", type_=ARRAY(Text)))
    .table_valued("property_id", "key")
    .render_derived()
)
_PLACE = (
    update(properties).where(properties.c.property_id == _KEYS.c.property_id, _UNPLACED).values(place_key=_KEYS.c.key)
)


async def unplaced(connection: AsyncConnection, limit: int) -> dict[str, dict[UUID, str | None]]:
    """Listings of every tenant without a key, with the one that each should have, by tenant."""
    query = select(properties.c.tenant_id, properties.c.property_id, *_OF_PLACE).where(_UNPLACED)
    found: dict[str, dict[UUID, str | None]] = {}
    for row in await connection.execute(query.order_by(*query.selected_columns[:2]).limit(limit)):
        values: dict[str, Any] = dict(row._mapping)
        of_tenant = found.setdefault(values.pop("tenant_id"), {})
        of_tenant[values.pop("property_id")] = place_key(PropertyDetails.model_construct(**values))
    return found


async def place(connection: AsyncConnection, keys: dict[UUID, str | None]) -> int:
    """Give listings of the connection's tenant their keys, but those that were saved meanwhile; returns how many."""
    ids: Sequence[UUID] = list(keys)
    return int((await connection.execute(_PLACE, {"property_ids": ids, "keys": list(keys.values())})).rowcount)
