"""How Postgres finds the listings of a search: by which index, as far as its planner cannot know.

The planner expects a thousandth of the listings in any polygon, and words to go together by chance. So the application
counts first, and then lets Postgres see those conditions only that an index is good for. The others are columns or
`IS TRUE`, which no index serves. docs/decisions/0014-search-on-postgres.md has the measurements.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import ARRAY, ColumnElement, Select, Text, and_, any_, bindparam, func, literal, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.search.conditions import Condition, by_field
from adapters.tables import listed_words, listings
from domain.search import SearchFilters
from domain.words import forms, words

MANY = 4_000
"""Listings that are read and sorted in some 10 ms. Where more of a million match, a page is found as soon in the order
of an index."""
SCANNED = 10_000
"""Listings of an index that are looked at for a page before another index is tried."""
_AREAS = ("near", "bbox", "polygon")


class Key(NamedTuple):
    """A part of a sort key: its value, which falls from row to row, and its ORDER BY."""

    value: ColumnElement[Any]
    order: ColumnElement[Any]

    @classmethod
    def falling(cls, value: ColumnElement[Any]) -> "Key":
        return cls(value, value.desc())


NEWEST = (Key.falling(listings.c.listed_at), Key.falling(listings.c.property_id))


@dataclass(frozen=True)
class Plan:
    """The conditions of a search, of which an index may serve the `plain` ones."""

    plain: Sequence[Condition]
    hidden: Sequence[Condition] = ()
    bounded: bool = False
    """Whether only the first SCANNED listings that meet the plain ones are looked at."""

    def statement(
        self,
        shown: Sequence[ColumnElement[Any]],
        order: Sequence[Key],
        more: Sequence[Condition] = (),
        limit: int | None = None,
    ) -> Select[Any]:
        """The first `limit` listings in order, with the columns `shown` and the sort key as `key_0` and so on."""
        keys = [key.value.label(f"key_{n}") for n, key in enumerate(order)]
        found = select(*shown, *keys).where(*self.plain, *more).order_by(*(key.order for key in order))
        if not self.bounded:
            return found.where(*(condition.is_(True) for condition in self.hidden)).limit(limit)
        matches = and_(*self.hidden).label("matches")
        seen = found.add_columns(matches).limit(SCANNED).subquery("seen")
        columns = [column for column in seen.c if column.name != matches.name]
        in_order = [seen.c[key.name].desc() for key in keys]
        return select(*columns).where(seen.c.matches).order_by(*in_order).limit(limit)


def complete(filters: SearchFilters) -> Plan:
    """The plan that the planner chooses."""
    return Plan(list(by_field(filters).values()))


def plan_of_changes(filters: SearchFilters) -> Plan:
    """The plan for those that were changed lately, which are few: by the index of changes."""
    rest = by_field(filters)
    hidden = [rest.pop(name) for name in ("q", *_AREAS) if name in rest]
    return Plan(list(rest.values()), hidden)


async def plan_of(
    connection: AsyncConnection, filters: SearchFilters, *, by_distance: bool = False, many: int | None = None
) -> Plan:
    """The plan for the first page of a search, or another one: above `many` listings, in the order of an index."""
    many = MANY if many is None else many
    rest = by_field(filters)
    text = [rest.pop("q")] if "q" in rest else []
    areas = [rest.pop(name) for name in _AREAS if name in rest]
    others = list(rest.values())
    is_rare = bool(text) and await _most_with(connection, filters.q or "") <= many
    if by_distance:
        # In the order of the index of points, which ends at the circle around `near`.
        return Plan([*others, *areas, *text]) if is_rare else Plan([*others, *areas], text)
    if is_rare:
        return Plan([*others, *text], areas)
    if areas and await _some_in(connection, areas, many) <= many:
        return Plan([*others, *areas], text)
    return Plan(others, [*text, *areas], bounded=bool(text or areas))


def below(order: Sequence[Key], values: Sequence[Any]) -> Condition:
    """Whether a listing comes after the one with these values: one comparison of rows, which an index serves."""
    bound = (literal(value, key.value.type) for key, value in zip(order, values, strict=True))
    is_below: Condition = tuple_(*(key.value for key in order)) < tuple_(*bound)
    return is_below


def not_below(order: Sequence[Key], values: Sequence[Any]) -> Condition:
    """The opposite of `below`."""
    bound = (literal(value, key.value.type) for key, value in zip(order, values, strict=True))
    is_not: Condition = tuple_(*(key.value for key in order)) >= tuple_(*bound)
    return is_not


async def _most_with(connection: AsyncConnection, text: str) -> int:
    """The number of listings that have the rarest word of a text, of which no more have all."""
    asked = [forms(word.text) for word in words(text)]
    every = [form for group in asked for form in group]
    query = select(listed_words.c.word, listed_words.c.listings).where(
        listed_words.c.word == any_(bindparam("words", every, type_=ARRAY(Text)))
    )
    known: dict[str, int] = {row.word: row.listings for row in await connection.execute(query)}
    return min(sum((known.get(form, 0) for form in group), 0) for group in asked)


async def _some_in(connection: AsyncConnection, areas: Sequence[Condition], many: int) -> int:
    """The number of listings in all of the areas, counted up to one more than `many`."""
    some = select(literal(1)).select_from(listings).where(*areas).limit(many + 1).subquery()
    counted: int = (await connection.execute(select(func.count()).select_from(some))).scalar_one()
    return counted
