"""Reads of the current state of one aggregate, by its id, from the row that its commands write.

Reads after a write see it at once. Lists of listings are in `property_lists`; counts and histories are read models,
which follow within a second: see `projections/`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, JSON, Uuid, any_, bindparam, func, literal_column, select
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.tables import properties, property_images, user_profiles, users
from domain.property import Property
from domain.property_status import PUBLIC_STATUSES
from domain.user import User

_IMAGE = {
    "id": property_images.c.image_id,
    "status": property_images.c.status,
    "commandId": property_images.c.command_id,
    "uploadId": property_images.c.upload_id,
    "size": property_images.c.size,
    "addedAt": property_images.c.added_at,
    "caption": property_images.c.caption,
    "isPrimary": property_images.c.is_primary,
    "key": func.encode(property_images.c.sha256, literal_column("'hex'")),
    "width": property_images.c.width,
    "height": property_images.c.height,
    "variants": property_images.c.variants,
    "thumbhash": property_images.c.thumbhash,
    "perceptualHash": property_images.c.perceptual_hash,
    "refused": property_images.c.refused,
}
_IMAGES = (
    select(
        func.json_agg(
            aggregate_order_by(
                func.json_build_object(
                    *(part for name, column in _IMAGE.items() for part in (literal_column(f"'{name}'"), column))
                ),
                property_images.c.position,
            ),
            type_=JSON,
        )
    )
    .select_from(property_images)
    .where(
        property_images.c.tenant_id == properties.c.tenant_id,
        property_images.c.property_id == properties.c.property_id,
    )
    .correlate(properties)
    .scalar_subquery()
)
PROPERTY_STATE = [
    *(column for column in properties.c if column.name not in {"tenant_id", "place_key"}),
    _IMAGES.label("images"),
]
"""The columns that `property_of` reads."""
_PROPERTY = select(*PROPERTY_STATE).where(properties.c.property_id == bindparam("property_id"))
_SUMMARIES = select(
    properties.c.property_id, properties.c.owner_id, properties.c.status, properties.c.title, properties.c.location
).where(properties.c.property_id == any_(bindparam("property_ids", type_=ARRAY(Uuid))))
_ACCOUNT = [
    column for column in users.c if column.name not in {"tenant_id", "password_hash"} and column.computed is None
]
_PROFILE = [
    column for column in user_profiles.c if column.name not in {"tenant_id", "user_id"} and column.computed is None
]
_USER = (
    select(*_ACCOUNT, *_PROFILE)
    .join(user_profiles, user_profiles.c.user_id == users.c.user_id)
    .where(users.c.user_id == bindparam("user_id"))
)


@dataclass(frozen=True)
class ListingSummary:
    """The columns of a listing that recording a view needs."""

    id: UUID
    owner_id: UUID
    status: str
    title: str
    location: str

    @property
    def is_public(self) -> bool:
        return self.status in PUBLIC_STATUSES


async def find_property(connection: AsyncConnection, property_id: UUID) -> Property | None:
    """The listing of the connection's tenant, in any status; the caller decides who may see it."""
    row = (await connection.execute(_PROPERTY, {"property_id": property_id})).mappings().one_or_none()
    return property_of(row) if row else None


def property_of(row: Mapping[Any, Any]) -> Property:
    """The aggregate state from a row of `properties`."""
    facts = {column.name: row[column.name] for column in PROPERTY_STATE}
    return Property(id=facts.pop("property_id"), **{**facts, "images": facts["images"] or ()})


async def find_properties(connection: AsyncConnection, property_ids: Sequence[UUID]) -> dict[UUID, ListingSummary]:
    """Summaries of listings of the connection's tenant, by id; unknown ids are absent."""
    rows = await connection.execute(_SUMMARIES, {"property_ids": property_ids})
    return {row[0]: ListingSummary(*row) for row in rows}


async def find_user(connection: AsyncConnection, user_id: UUID) -> User | None:
    """The account of the connection's tenant, in any status."""
    row = (await connection.execute(_USER, {"user_id": user_id})).mappings().one_or_none()
    if row is None:
        return None
    facts = dict(row)
    return User(id=facts.pop("user_id"), **facts)
