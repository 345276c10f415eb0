"""Postgres as the search engine: answers searches from `listings`, the view of the projection `search`."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Double,
    Row,
    Uuid,
    any_,
    bindparam,
    func,
    literal_column,
    select,
    tuple_,
)
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import TypeEngine

from adapters.postgres import Database, DatabaseUnavailable, StatementTimeout
from adapters.search.clusters import clusters
from adapters.search.conditions import distance_to, text_query
from adapters.search.engine import SearchTooSlow, SearchUnavailable
from adapters.search.facets import counts, total_and_facets
from adapters.search.plans import NEWEST, Key, below, complete, plan_of, plan_of_changes
from adapters.search.relevance import most_relevant
from adapters.search.rows import SEARCHED
from adapters.tables import KM_PER_UNIT, SORT_KEYS, listings
from domain.clusters import Counted
from domain.search import CHANGES_OF_A_PAGE, Hit, Position, SearchFilters, SearchQuery, SearchResult, Sort, Total
from domain.words import highlighted, singular, words

_AROUND = 120
"""Characters of a description before and after its first matching word that a highlight shows."""
_LAST_CHANGE = select(func.max(listings.c.applied_at))
_SHOWN = (listings.c.card, listings.c.created_at, listings.c.listed_at, listings.c.property_id)


class PostgresSearch:
    """The engine. `database` plans each execution anew: `Database.for_searching`."""

    name = "postgres"

    def __init__(self, database: Database) -> None:
        self._database = database

    async def search(
        self, tenant_id: str, query: SearchQuery, after: Position | None = None, *, with_counts: bool = True
    ) -> SearchResult:
        """The page of `query` after a position; the first one with total and facets. Raises SearchUnavailable."""
        near = query.near
        shown = (*_SHOWN, distance_to(near).label("distance")) if near else _SHOWN
        asked = text_query(query.q) if query.q else None
        async with self._connection(tenant_id) as connection:
            if asked and query.sort is Sort.RELEVANCE:
                rows, following = await most_relevant(connection, query, asked, shown, after)
            else:
                rows, following = await _in_order(connection, query, shown, after)
            total, facets = (None, {}) if after or not with_counts else await total_and_facets(connection, query)
        wanted = frozenset(singular(word.text) for word in words(query.q or ""))
        return SearchResult([_hit(row, wanted) for row in rows], following, total, facets)

    async def count(self, tenant_id: str, filters: SearchFilters) -> Total:
        """How many listings match, counted up to COUNTED_EXACTLY. Raises SearchUnavailable."""
        return (await self.counts(tenant_id, [filters]))[0]

    async def counts(self, tenant_id: str, several: Sequence[SearchFilters]) -> list[Total]:
        """How many listings match each of several searches, by one statement. Raises SearchUnavailable."""
        async with self._connection(tenant_id) as connection:
            return await counts(connection, several)

    async def clusters(self, tenant_id: str, filters: SearchFilters, level: int) -> Counted:
        """The listings that match, by the tiles of a level. Raises SearchUnavailable."""
        async with self._connection(tenant_id) as connection:
            return await clusters(connection, filters, level)

    async def changes(
        self, tenant_id: str, filters: SearchFilters, since: datetime, after: Position | None = None
    ) -> SearchResult:
        """The listings that match with changes applied since, the latest last. Raises SearchUnavailable."""
        plan, place = plan_of_changes(filters), (listings.c.applied_at, listings.c.property_id)
        query = select(*_SHOWN, listings.c.changed_at, listings.c.applied_at).where(*plan.plain)
        query = query.where(*(hidden.is_(True) for hidden in plan.hidden), listings.c.applied_at >= since)
        query = query.order_by(*place).limit(CHANGES_OF_A_PAGE + 1)
        if after:
            query = query.where(tuple_(*place) > (datetime.fromisoformat(after[0]), UUID(after[1])))
        async with self._connection(tenant_id) as connection:
            rows = list(await connection.execute(query))
        shown = rows[:CHANGES_OF_A_PAGE]
        following = (shown[-1].applied_at.isoformat(), str(shown[-1].property_id)) if len(rows) > len(shown) else None
        return SearchResult([replace(_hit(row, frozenset()), changed_at=row.changed_at) for row in shown], following)

    async def last_change(self, tenant_id: str) -> datetime | None:
        """When the last change was applied. Raises SearchUnavailable."""
        async with self._connection(tenant_id) as connection:
            found: datetime | None = (await connection.execute(_LAST_CHANGE)).scalar_one()
        return found

    async def refresh(self) -> None:
        """What is committed is found."""

    async def make_findable(self, tenant_id: str, property_id: UUID, version: int) -> None:
        """What is committed is found."""

    async def ping(self) -> None:
        """The database is a dependency of its own."""

    async def close(self) -> None:
        """It has no connections of its own."""

    async def cards(self, tenant_id: str, ids: Sequence[UUID]) -> list[Hit]:
        """The active listings with these ids, in the order of `ids`. Raises SearchUnavailable."""
        query = select(*_SHOWN).where(listings.c.property_id == any_(bindparam("ids", list(ids), type_=ARRAY(Uuid))))
        async with self._connection(tenant_id) as connection:
            found = {row.property_id: row for row in await connection.execute(query)}
        return [_hit(found[one], frozenset()) for one in dict.fromkeys(ids) if one in found]

    @asynccontextmanager
    async def _connection(self, tenant_id: str) -> AsyncIterator[AsyncConnection]:
        try:
            async with self._database.statements(tenant_id) as connection:
                yield connection
        except StatementTimeout as error:
            raise SearchTooSlow(str(error)) from error
        except DatabaseUnavailable as error:
            raise SearchUnavailable(str(error)) from error


async def _in_order(
    connection: AsyncConnection, query: SearchQuery, shown: Sequence[ColumnElement[Any]], after: Position | None
) -> tuple[list[Row[Any]], Position | None]:
    """The rows of a page in the order of a column, and the position of the last one; None on the last page."""
    order = order_of(query)
    more = [below(order, [*after[:-2], datetime.fromisoformat(after[-2]), UUID(after[-1])])] if after else []
    plan = await plan_of(connection, query, by_distance=query.sort is Sort.DISTANCE)
    rows = list(await connection.execute(plan.statement(shown, order, more, query.limit + 1)))
    if plan.bounded and len(rows) <= query.limit:
        rows = list(await connection.execute(complete(query).statement(shown, order, more, query.limit + 1)))
    if len(rows) <= query.limit:
        return rows, None
    last = rows[query.limit - 1]
    values = [getattr(last, f"key_{n}") for n in range(len(order) - 2)]
    return rows[: query.limit], (*values, last.listed_at.isoformat(), str(last.property_id))


def order_of(query: SearchQuery) -> tuple[Key, ...]:
    """The sort key: a value that falls from row to row, then time and id."""
    match query.sort:
        case Sort.RELEVANCE | Sort.NEWEST:
            return NEWEST
        case Sort.DISTANCE:
            assert query.near is not None, "SearchQuery refuses it"
            distance = distance_to(query.near)
            return (Key(-distance, distance.asc()), *NEWEST)
        case sort:
            kind: TypeEngine[Any] = Double() if sort is Sort.PRICE_PER_SQFT else BigInteger()
            key: ColumnElement[Any] = literal_column(SORT_KEYS[sort.value], kind)
            return (Key.falling(key), *NEWEST)


def _hit(row: Any, wanted: frozenset[str]) -> Hit:
    """A row as an engine's hit; `wanted` are the singulars of the words to mark."""
    # The times are columns: an older event that comes late may correct them.
    times = orjson.dumps({"createdAt": row.created_at, "listedAt": row.listed_at}, option=orjson.OPT_UTC_Z)
    card = row.card[:-1] + b"," + times[1:]
    marked: dict[str, str] = {}
    if wanted:
        content = orjson.loads(row.card)
        for name in SEARCHED:
            around = _AROUND if name == "description" else None
            if found := highlighted(content[name] or "", wanted, around):
                marked[name] = found
    distance = getattr(row, "distance", None)
    return Hit(card, row.property_id, None if distance is None else round(distance * KM_PER_UNIT, 3), marked)
