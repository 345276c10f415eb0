"""Reads of the current state of one aggregate, by its id, from the row that its commands write.

Reads after a write see it at once. Lists of listings are in `property_lists`; counts and histories are read models,
which follow within a second: see `projections/`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, Uuid, any_, bindparam, select
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.tables import properties, user_profiles, users
from domain.property import Property
from domain.property_status import PUBLIC_STATUSES
from domain.user import User

PROPERTY_STATE = [column for column in properties.c if column.name not in {"tenant_id", "place_key"}]
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
    return Property(id=facts.pop("property_id"), **facts)


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
