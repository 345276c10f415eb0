"""Totals and facets of a search on Postgres, by one statement."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

from sqlalchemy import (
    ARRAY,
    CTE,
    BigInteger,
    Integer,
    Select,
    Text,
    cast,
    func,
    literal,
    literal_column,
    null,
    select,
    true,
    tuple_,
    union_all,
)
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.expression import ColumnElement

from adapters.search.conditions import Condition, conditions
from adapters.tables import listings
from domain.amenities import amenity_key
from domain.facets import PRICE_BANDS, PRICE_LIMITS, VALUES_SHOWN, Facet, counted_together
from domain.search import COUNTED_EXACTLY, FacetValue, SearchFilters, Total

_C = listings.c
_LOWEST: ColumnElement[Any] = literal_column(f"'{{{','.join(str(limit + 1) for limit in PRICE_LIMITS)}}}'::bigint[]")
"""The lowest price of each band but the first."""
_VALUES: dict[Facet, ColumnElement[Any]] = {
    Facet.PROPERTY_TYPE: _C.property_type,
    Facet.LISTING_TYPE: _C.listing_type,
    Facet.BEDROOMS: _C.bedrooms,
    Facet.BATHROOMS: _C.bathrooms,
    Facet.FURNISHED_STATUS: _C.furnished_status,
    Facet.FACING: _C.facing,
    Facet.POSTED_BY: _C.posted_by,
    Facet.AMENITIES: _C.amenity_codes,
    Facet.LOCATION: _C.locality,
    Facet.PRICE: func.width_bucket(_C.price, _LOWEST),
}


_AMENITIES = -1
"""In the place of the bits of GROUPING: a listing has several amenities, each of which counts."""


class _Part(NamedTuple):
    """Listings that match, and the facets that are counted among them."""

    filters: SearchFilters
    facets: list[Facet]


async def counts(connection: AsyncConnection, several: Sequence[SearchFilters]) -> list[Total]:
    """How many listings match each of several searches."""
    if not several:
        return []
    found = (_some(filters).subquery(f"found_{n}") for n, filters in enumerate(several))
    counted = (select(literal(n, Integer), func.count()).select_from(rows) for n, rows in enumerate(found))
    totals = {n: _total(count) for n, count in await connection.execute(union_all(*counted))}
    return [totals[n] for n in range(len(several))]


async def total_and_facets(
    connection: AsyncConnection, filters: SearchFilters
) -> tuple[Total, Mapping[str, tuple[FacetValue, ...]]]:
    """How many listings match, and how many have each value under the filters on other fields.

    Facets without a filter of their own are counted in the listings that match; each of the others in listings that
    its filter does not choose from. So the statement reads at most COUNTED_EXACTLY listings for each facet that is
    filtered by, and once more.
    """
    parts = [_Part(*each) for each in counted_together(filters).items()]
    counted = (_counted(n, _found(part).cte(f"found_{n}"), part.facets) for n, part in enumerate(parts))
    rows = await connection.execute(union_all(*chain.from_iterable(counted)))
    return _read(rows, [part.facets for part in parts])


def _conditions(filters: SearchFilters) -> list[Condition]:
    """The conditions of the filters, on columns that `property_search_newest` and `_filters` have, if possible."""
    labels = sorted({amenity_key(label) for label in filters.amenities})
    if not labels:
        return conditions(filters)
    codes = func.search.label_codes(cast(literal(labels, ARRAY(Text)), ARRAY(Text)), type_=ARRAY(BigInteger))
    return [*conditions(filters, without="amenities"), _C.amenity_codes.bool_op("@>")(codes)]


def _some(filters: SearchFilters) -> Select[*tuple[Any, ...]]:
    """Listings that match; one more than are counted."""
    return select(literal(1)).select_from(listings).where(*_conditions(filters)).limit(COUNTED_EXACTLY + 1)


def _found(part: _Part) -> Select[*tuple[Any, ...]]:
    """The values of the newest listings that match; of one more than are counted.

    The newest ones, because the order of another index would leave whole values out where not all are counted.
    """
    values = [_C.property_id, *(_VALUES[facet].label(facet) for facet in part.facets)]
    found = select(*values).where(*_conditions(part.filters))
    return found.order_by(_C.listed_at.desc(), _C.property_id.desc()).limit(COUNTED_EXACTLY + 1)


def _counted(number: int, found: CTE, facets: Sequence[Facet]) -> Iterator[Select[*tuple[Any, ...]]]:
    """Statements with rows of the part, the facet or null, a value and its count; without a facet, of all listings."""
    part = literal(number, Integer)
    yield select(part, cast(null(), Integer), cast(null(), Text), func.count()).select_from(found)
    columns = [found.c[facet] for facet in facets if facet is not Facet.AMENITIES]
    if columns:
        value = func.coalesce(*(cast(column, Text) for column in columns))
        each = select(part, func.grouping(*columns), value, func.count())
        yield each.group_by(func.grouping_sets(*(tuple_(column) for column in columns)))
    if Facet.AMENITIES in facets:
        yield _labels(part, found)


def _labels(part: ColumnElement[Any], found: CTE) -> Select[*tuple[Any, ...]]:
    """The rows of amenities: of the most frequent codes, each with the label that one of its listings has for it."""
    code = func.unnest(found.c[Facet.AMENITIES]).table_valued("code").render_derived("each").c.code
    count = func.count().label("listings")
    frequent = (
        select(code, count, func.any_value(found.c.property_id).label("property_id"))
        .select_from(found.join(code.table, true()))
        .group_by(code)
        .order_by(count.desc())
        .limit(VALUES_SHOWN)
        .subquery("frequent")
    )
    label = func.unnest(listings.c.amenities).table_valued("label").render_derived("label").c.label
    labels = (
        select(label)
        .select_from(listings.join(label.table, true()))
        .where(listings.c.property_id == frequent.c.property_id)
        .where(func.hashtextextended(label, 0) == frequent.c.code)
        .limit(1)
        .scalar_subquery()
    )
    return select(part, literal(_AMENITIES, Integer), labels, frequent.c.listings)


def _read(
    rows: Iterable[tuple[Any, ...]], parts: Sequence[Sequence[Facet]]
) -> tuple[Total, Mapping[str, tuple[FacetValue, ...]]]:
    """The total and the facets from the rows of `_counted`."""
    totals: dict[int, Total] = {}
    counted: dict[Facet, dict[str, int]] = defaultdict(dict)
    for part, which, value, count in rows:
        if which is None:
            totals[part] = _total(count)
        elif value is not None:
            counted[_facet(which, parts[part])][value] = count
    exact = {facet: totals[part].exact for part, facets in enumerate(parts) for facet in facets}
    return totals[0], {facet.value: _values(facet, counted[facet], exact[facet]) for facet in Facet}


def _values(facet: Facet, counted: Mapping[str, int], exact: bool) -> tuple[FacetValue, ...]:
    """The values of a facet, the most frequent first."""
    values = (
        FacetValue(PRICE_BANDS[int(value)] if facet is Facet.PRICE else value, count, exact)
        for value, count in counted.items()
    )
    return tuple(sorted(values, key=lambda each: (-each.count, each.value))[:VALUES_SHOWN])


def _facet(which: int, facets: Sequence[Facet]) -> Facet:
    """The facet that a row counts, from the bits of GROUPING: 0 for the column that it is grouped by."""
    if which == _AMENITIES:
        return Facet.AMENITIES
    grouped = [facet for facet in facets if facet is not Facet.AMENITIES]
    bit: int = (1 << len(grouped)) - 1 ^ which
    return grouped[len(grouped) - bit.bit_length()]


def _total(found: int) -> Total:
    return Total(min(found, COUNTED_EXACTLY), found <= COUNTED_EXACTLY)
