"""Listings that may be the same property: of one owner at the same place with the same unit, or with the same photo."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Executable,
    FromClause,
    Uuid,
    any_,
    bindparam,
    cast,
    func,
    or_,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import BIT
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.tables import properties, property_images
from adapters.tables.files import HASH_PARTS
from domain.property_status import PUBLIC_STATUSES, PropertyStatus

_MOST = 20
"""Of one listing: with more of them it is no mistake of one row."""
UNPLACED = "?"
"""The key of a listing that was saved before there was one; no place has it."""
_GONE = (PropertyStatus.SOLD, PropertyStatus.RENTED, PropertyStatus.WITHDRAWN, PropertyStatus.EXPIRED)
"""The same flat may be listed again after these."""


def _of_listing(image: FromClause, listing: FromClause) -> ColumnElement[bool]:
    return (image.c.tenant_id == listing.c.tenant_id) & (image.c.property_id == listing.c.property_id)


_THIS = properties.alias("this")
_OTHER = properties.alias("other")
# Limited for each listing: of thousands at one place, all pairs would be millions.
_SAME_PLACE = (
    select(_OTHER.c.property_id, _OTHER.c.created_at)
    .where(
        _OTHER.c.tenant_id == _THIS.c.tenant_id,
        _OTHER.c.owner_id == _THIS.c.owner_id,
        _OTHER.c.place_key == _THIS.c.place_key,
        _OTHER.c.property_id != _THIS.c.property_id,
        _OTHER.c.status.not_in(_GONE),
    )
    .order_by(_OTHER.c.created_at, _OTHER.c.property_id)
    .limit(_MOST)
    .correlate(_THIS)
    .lateral("same_place")
)
_DUPLICATES = (
    select(_THIS.c.property_id, _SAME_PLACE.c.property_id.label("other_id"))
    .join(_SAME_PLACE, true())
    .where(
        _THIS.c.property_id == any_(bindparam("property_ids", type_=ARRAY(Uuid))),
        _THIS.c.owner_id == bindparam("owner_id"),
        _THIS.c.place_key != UNPLACED,
        _THIS.c.status.not_in(_GONE),
    )
    .order_by(_SAME_PLACE.c.created_at, _SAME_PLACE.c.property_id)
)
_THIS_IMAGE, _OTHER_IMAGE = property_images.alias("this_image"), property_images.alias("other_image")
_SIMILAR_BITS = 4
"""Of 64, in which copies of a photo differ that were resized or recompressed; other photos differ in 16 and more
(docs/decisions/0021)."""
# Those with a part in common, by its index, and of these the similar ones.
_HAS_PART = or_(*(_OTHER_IMAGE.c[f"hash_part_{n}"] == _THIS_IMAGE.c[f"hash_part_{n}"] for n in range(HASH_PARTS)))
_SIMILAR = (
    func.bit_count(cast(_OTHER_IMAGE.c.perceptual_hash.op("#")(_THIS_IMAGE.c.perceptual_hash), BIT(64)))
    <= _SIMILAR_BITS
)
_BY_PHOTO = (
    select(_THIS.c.property_id, _OTHER.c.property_id.label("other_id"), _OTHER.c.created_at)
    .distinct()
    .join(_THIS_IMAGE, _of_listing(_THIS_IMAGE, _THIS))
    .join(_OTHER_IMAGE, (_OTHER_IMAGE.c.tenant_id == _THIS_IMAGE.c.tenant_id) & _HAS_PART & _SIMILAR)
    .join(_OTHER, _of_listing(_OTHER_IMAGE, _OTHER) & (_OTHER.c.property_id != _THIS.c.property_id))
    .where(
        _THIS.c.property_id == any_(bindparam("property_ids", type_=ARRAY(Uuid))),
        _THIS.c.owner_id == bindparam("owner_id"),
        _THIS_IMAGE.c.perceptual_hash != 0,  # of a picture of one colour
        _THIS.c.status.not_in(_GONE),
        _OTHER.c.status.not_in(_GONE),
        or_(_OTHER.c.owner_id == _THIS.c.owner_id, _OTHER.c.status.in_(PUBLIC_STATUSES)),
    )
    .order_by(_OTHER.c.created_at, _OTHER.c.property_id)
)


async def by_photo(connection: AsyncConnection, owner_id: UUID, property_ids: Sequence[UUID]) -> dict[UUID, list[UUID]]:
    """The listings with a photo of some listings of an owner: the owner's own, and public ones of others, the oldest of
    each first.
    """
    return await _found(connection, _BY_PHOTO, owner_id, property_ids)


async def among(connection: AsyncConnection, owner_id: UUID, property_ids: Sequence[UUID]) -> dict[UUID, list[UUID]]:
    """The possible duplicates of some listings of an owner of the connection's tenant, the oldest of each first."""
    return await _found(connection, _DUPLICATES, owner_id, property_ids)


async def _found(
    connection: AsyncConnection, query: Executable, owner_id: UUID, property_ids: Sequence[UUID]
) -> dict[UUID, list[UUID]]:
    found: dict[UUID, list[UUID]] = {}
    if property_ids:
        for row in await connection.execute(query, {"owner_id": owner_id, "property_ids": property_ids}):
            others = found.setdefault(row.property_id, [])
            if len(others) < _MOST:
                others.append(row.other_id)
    return found
