"""Reads of the current state of many listings: keyset pages, newest first.

Like `current_state`, they read the row that commands write, so a list shows a change as soon as it is saved.
"""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, and_, literal_column, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.current_state import PROPERTY_STATE, property_of
from adapters.paging import Cursor
from adapters.tables import favorites, properties
from domain.property import Property
from domain.property_status import PUBLIC_STATUSES, PropertyStatus

# A literal rather than a parameter: the generic plan of a prepared statement cannot use the partial index of active
# listings for a parameter.
_ACTIVE = properties.c.status == literal_column("'ACTIVE'")


@dataclass(frozen=True)
class ListingPage:
    """Listings, and the cursor of the next page (None on the last page)."""

    items: list[Property]
    next: Cursor | None


async def newest(connection: AsyncConnection, limit: int, cursor: Cursor | None) -> ListingPage:
    """Active listings of the connection's tenant, by the time they were first public."""
    return await _page_of(connection, _ACTIVE, properties.c.listed_at, limit, cursor)


async def featured(connection: AsyncConnection, limit: int, cursor: Cursor | None) -> ListingPage:
    """Active listings that an administrator has featured, by the time they were first public."""
    return await _page_of(connection, and_(_ACTIVE, properties.c.is_featured), properties.c.listed_at, limit, cursor)


async def of_owner(
    connection: AsyncConnection, owner_id: UUID, status: PropertyStatus | None, limit: int, cursor: Cursor | None
) -> ListingPage:
    """A user's own listings, in one status or in all, by the time they were created."""
    which = properties.c.owner_id == owner_id
    which = and_(which, properties.c.status == status) if status else which
    return await _page_of(connection, which, properties.c.created_at, limit, cursor)


async def favorites_of(
    connection: AsyncConnection, user_id: UUID, limit: int, cursor: Cursor | None, *, sees_all: bool
) -> ListingPage:
    """A user's favourites, newest first by the time they were added; without deleted ones and those they may not see.

    `sees_all` is for administrators, who may see listings in every status.
    """
    query = (
        select(favorites.c.changed_at.label("added_at"), *PROPERTY_STATE)
        .join(properties, properties.c.property_id == favorites.c.property_id)
        .where(favorites.c.user_id == user_id, favorites.c.is_favorite)
    )
    if not sees_all:
        query = query.where(or_(properties.c.status.in_(PUBLIC_STATUSES), properties.c.owner_id == user_id))
    return await _page(connection, query, (favorites.c.changed_at, favorites.c.property_id), limit, cursor)


async def _page_of(
    connection: AsyncConnection, which: ColumnElement[bool], by: ColumnElement[Any], limit: int, cursor: Cursor | None
) -> ListingPage:
    query = select(by.label("added_at"), *PROPERTY_STATE).where(which)
    return await _page(connection, query, (by, properties.c.property_id), limit, cursor)


async def _page(
    connection: AsyncConnection,
    query: Select[*tuple[Any, ...]],
    keyset: tuple[ColumnElement[Any], ColumnElement[Any]],
    limit: int,
    cursor: Cursor | None,
) -> ListingPage:
    """A page of `query`, whose rows are ordered by time and id, newest first."""
    if cursor:
        # A row comparison, which Postgres can turn into an index condition.
        query = query.where(tuple_(*keyset) < tuple_(cursor.timestamp, cursor.id))
    newest_first = query.order_by(*(column.desc() for column in keyset))
    # One row more than the page, to know whether there is a next one.
    rows = (await connection.execute(newest_first.limit(limit + 1))).mappings().all()
    last = rows[limit - 1] if len(rows) > limit else None
    next_cursor = Cursor(last["added_at"], last["property_id"]) if last else None
    return ListingPage([property_of(row) for row in rows[:limit]], next_cursor)
