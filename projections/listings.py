"""Lists of listings, newest first, a page at a time.

They read `property_management.properties`, the row that the commands on a listing write, so a list has a change as soon
as it is saved. There is no read model of listings until search has its own, `search.property_search`.
"""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, and_, literal_column, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.current_state import PROPERTY_STATE, property_of
from adapters.tables import favorites, properties
from domain.property import Property
from domain.property_status import PUBLIC_STATUSES, PropertyStatus
from projections.paging import Cursor

# A literal rather than a parameter: Postgres plans a prepared statement for any value of a parameter, and then cannot
# use the index that has the active listings only.
_ACTIVE = properties.c.status == literal_column("'ACTIVE'")


@dataclass(frozen=True)
class ListingPage:
    """Listings, and the cursor of the next page; None on the last page."""

    items: list[Property]
    next: Cursor | None


async def newest(connection: AsyncConnection, limit: int, after: Cursor | None) -> ListingPage:
    """The active listings of the connection's tenant, by the time they were first public."""
    return await _page_of(connection, _ACTIVE, properties.c.listed_at, limit, after)


async def featured(connection: AsyncConnection, limit: int, after: Cursor | None) -> ListingPage:
    """Those active listings that an administrator has stand out, by the time they were first public."""
    return await _page_of(connection, and_(_ACTIVE, properties.c.is_featured), properties.c.listed_at, limit, after)


async def of_owner(
    connection: AsyncConnection, owner_id: UUID, status: PropertyStatus | None, limit: int, after: Cursor | None
) -> ListingPage:
    """A user's own listings, in one status or in all, by the time they were created."""
    which = properties.c.owner_id == owner_id
    which = and_(which, properties.c.status == status) if status else which
    return await _page_of(connection, which, properties.c.created_at, limit, after)


async def favorites_of(
    connection: AsyncConnection, user_id: UUID, limit: int, after: Cursor | None, *, sees_all: bool
) -> ListingPage:
    """A user's favourites by the time they were added, without those that are gone or that the user may not see.

    `sees_all` is for administrators, who may see listings in every status.
    """
    query = (
        select(favorites.c.changed_at.label("added_at"), *PROPERTY_STATE)
        .join(properties, properties.c.property_id == favorites.c.property_id)
        .where(favorites.c.user_id == user_id, favorites.c.is_favorite)
    )
    if not sees_all:
        query = query.where(or_(properties.c.status.in_(PUBLIC_STATUSES), properties.c.owner_id == user_id))
    return await _page(connection, query, (favorites.c.changed_at, favorites.c.property_id), limit, after)


async def _page_of(
    connection: AsyncConnection, which: ColumnElement[bool], by: ColumnElement[Any], limit: int, after: Cursor | None
) -> ListingPage:
    query = select(by.label("added_at"), *PROPERTY_STATE).where(which)
    return await _page(connection, query, (by, properties.c.property_id), limit, after)


async def _page(
    connection: AsyncConnection,
    query: Select[*tuple[Any, ...]],
    keyset: tuple[ColumnElement[Any], ColumnElement[Any]],
    limit: int,
    after: Cursor | None,
) -> ListingPage:
    """A page of `query`, whose rows are ordered by time and id, newest first."""
    if after:
        # Compared as a row, which an index answers from where the page begins.
        query = query.where(tuple_(*keyset) < tuple_(after.timestamp, after.id))
    newest_first = query.order_by(*(column.desc() for column in keyset))
    # One more than the page has tells whether another follows.
    rows = (await connection.execute(newest_first.limit(limit + 1))).mappings().all()
    last = rows[limit - 1] if len(rows) > limit else None
    next_cursor = Cursor(last["added_at"], last["property_id"]) if last else None
    return ListingPage([property_of(row) for row in rows[:limit]], next_cursor)
