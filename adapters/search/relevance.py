"""The order by relevance: the newest matches of a text are ranked a window at a time.

To rank all listings with a common word would read all of them: 837 ms at a million listings, where the newest 1,000
matches have 99.96 % of the rank. So a page has the best of the newest window, and when that ends, of the window of
older listings. A position holds the bounds of its window, which keep the order right while listings come and go.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import ARRAY, REAL, ColumnElement, Row, Select, Text, cast, func, literal, select
from sqlalchemy.dialects.postgresql import TSQUERY
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.search.plans import NEWEST, Key, below, complete, not_below, plan_of
from adapters.tables import listings
from domain.search import Position, SearchQuery

WINDOW = 1_000
_WEIGHTS = [0.05, 0.2, 0.4, 1.0]
"""Of a word in the description, nowhere, in the address, and in title or locality."""

_Place = tuple[datetime, UUID]


class _Cursor(NamedTuple):
    """A place in the order: the bounds of a window, and the rank and place of an item in it."""

    upper: _Place | None
    lower: _Place
    item: tuple[float, datetime, UUID]

    @classmethod
    def opened(cls, position: Position) -> "_Cursor":
        upper, lower, (rank, at, id) = position
        return cls(_place(upper) if upper else None, _place(lower), (rank, *_place((at, id))))

    def position(self) -> Position:
        upper = [self.upper[0].isoformat(), str(self.upper[1])] if self.upper else None
        rank, at, id = self.item
        return upper, [self.lower[0].isoformat(), str(self.lower[1])], [rank, at.isoformat(), str(id)]


async def most_relevant(
    connection: AsyncConnection,
    query: SearchQuery,
    asked: str,
    shown: Sequence[ColumnElement[Any]],
    after: Position | None,
) -> tuple[list[Row[Any]], Position | None]:
    """The rows of a page, for the tsquery `asked`, and the position of the last one; None on the last page."""
    cursor = _Cursor.opened(after) if after else None
    upper = None
    page: list[tuple[Row[Any], _Place | None, _Place]] = []
    if cursor:
        known = [not_below(NEWEST, cursor.lower), *([below(NEWEST, cursor.upper)] if cursor.upper else [])]
        # Without a limit: new listings make the newest window larger.
        rest = _ranked(complete(query).statement((*shown, listings.c.words), NEWEST, known), asked)
        rows = await connection.execute(_page(rest, query.limit + 1, cursor.item))
        page = [(row, cursor.upper, cursor.lower) for row in rows]
        upper = cursor.lower
    plan = await plan_of(connection, query) if len(page) <= query.limit else complete(query)
    ended = False
    while len(page) <= query.limit and not ended:
        older = [below(NEWEST, upper)] if upper else []
        window = plan.statement((*shown, listings.c.words), NEWEST, older, WINDOW)
        found = list(await connection.execute(_page(_ranked(window, asked), query.limit + 1 - len(page))))
        size = found[0].size if found else 0
        if plan.bounded and size <= query.limit:
            plan = complete(query)
            continue
        ended = size < WINDOW and not plan.bounded
        if found:
            lower = (found[0].oldest_at, found[0].oldest_id)
            page += [(row, upper, lower) for row in found]
            upper = lower
    if len(page) <= query.limit:
        return [row for row, *_ in page], None
    last, upper, lower = page[query.limit - 1]
    cursor = _Cursor(upper, lower, (last.rank, last.listed_at, last.property_id))
    return [row for row, *_ in page[: query.limit]], cursor.position()


def _ranked(window: Select[Any], asked: str) -> Select[Any]:
    """The rows of a window with their ranks."""
    newest = window.cte("newest")
    weights = cast(literal(_WEIGHTS, ARRAY(REAL)), ARRAY(REAL))
    rank = func.ts_rank(weights, newest.c.words, cast(literal(asked, Text), TSQUERY), type_=REAL)
    return select(*(column for column in newest.c if column.name != "words"), rank.label("rank"))


def _page(ranked: Select[Any], limit: int, after: tuple[float, datetime, UUID] | None = None) -> Select[Any]:
    """The best rows of a window, or those after an item; each also has the size and the oldest place of the window."""
    best = ranked.cte("ranked")
    order = [Key.falling(column) for column in (best.c.rank, best.c.listed_at, best.c.property_id)]
    oldest = select(best.c.listed_at, best.c.property_id).order_by(best.c.listed_at, best.c.property_id).limit(1)
    end = oldest.cte("oldest")
    window = (
        select(func.count()).select_from(best).scalar_subquery().label("size"),
        select(end.c.listed_at).scalar_subquery().label("oldest_at"),
        select(end.c.property_id).scalar_subquery().label("oldest_id"),
    )
    page = select(*best.c, *window).order_by(*(key.order for key in order)).limit(limit)
    return page.where(below(order, after)) if after else page


def _place(value: Sequence[str]) -> _Place:
    at, id = value
    return datetime.fromisoformat(at), UUID(id)
