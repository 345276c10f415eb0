"""Searches as requests to OpenSearch: filters, order and facets, the same that Postgres answers."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from adapters.search.rows import SEARCHED
from domain.amenities import amenity_key
from domain.facets import PRICE_BANDS, PRICE_LIMITS, VALUES_SHOWN, Facet
from domain.gazetteer import locality_key
from domain.geometry import Box, Point, Polygons, Ring
from domain.search import (
    CHANGES_OF_A_PAGE,
    COUNTED_EXACTLY,
    FacetValue,
    Position,
    Rooms,
    SearchFilters,
    SearchQuery,
    Sort,
)
from domain.words import singular, words

Clause = dict[str, Any]

_WEIGHTS = {"A": 1.0, "B": 0.5, "D": 0.0625}
"""Of a word by the text that has it, in powers of two, whose sums are exact: ranks of equal listings are equal."""
_NO_AREA, _NO_RATE = 10**9, 1e15
"""In place of an area or a price per square foot that is not known: above any, so that it comes last."""
_ROOMS = 101
"""Different numbers of rooms."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def microseconds(at: datetime) -> int:
    """Since 1970, exactly."""
    since = at - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def time_of(microseconds: int) -> datetime:
    seconds, rest = divmod(microseconds, 1_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest)


def conditions(filters: SearchFilters) -> list[Clause]:
    """The conditions of the filters, all of which a listing must meet."""
    return [clause for name, value in filters.given.items() for clause in _CONDITIONS[name](value, filters)]


def page(query: SearchQuery, after: Position | None) -> Clause:
    """The request of a page: its sort values are those of a position after `position_of`."""
    found: Clause = {"filter": conditions(query)}
    wanted = list(_singulars(query.q or ""))
    if wanted and query.sort is Sort.RELEVANCE:
        found["must"] = [_weight(word) for word in wanted]
    asked: Clause = {
        "query": {"bool": found},
        "sort": _order(query),
        # One more shows whether there is another page.
        "size": query.limit + 1,
        "track_total_hits": False if after else COUNTED_EXACTLY,
        "_source": ["card"],
    }
    return asked | {"search_after": _search_after(query, after)} if after else asked


def changes(filters: SearchFilters, since: datetime, after: Position | None) -> Clause:
    """The request of a page of changes: its sort values are those of a position after `position_of_change`."""
    lately = {"range": {"applied_at": {"gte": microseconds(since)}}}
    asked: Clause = {
        "query": {"bool": {"filter": [*conditions(filters), lately]}},
        "sort": [{"applied_at": "asc"}, {"id": "asc"}],
        "size": CHANGES_OF_A_PAGE + 1,
        "track_total_hits": False,
        "_source": ["card", "changed_at"],
    }
    if not after:
        return asked
    applied_at, id = after
    return asked | {"search_after": [microseconds(datetime.fromisoformat(applied_at)), id]}


def position_of_change(sort_values: Sequence[Any]) -> Position:
    """The position of a change, as in Postgres."""
    applied_at, id = sort_values
    return time_of(applied_at).isoformat(), id


LAST_CHANGE: Clause = {
    "query": {"match_all": {}},
    "sort": [{"applied_at": "desc"}],
    "size": 1,
    "track_total_hits": False,
    "_source": False,
}
"""The request of the last change."""


def position_of(query: SearchQuery, sort_values: Sequence[Any]) -> Position:
    """The position of an item: a value that falls from item to item, then time and id, as in Postgres."""
    *value, listed_at, id = sort_values
    return (*(_sign(query) * each for each in value), time_of(listed_at).isoformat(), id)


def counted(facets: Sequence[Facet]) -> dict[str, Clause]:
    """The aggregations of facets, by their names."""
    return {facet.value: _AGGREGATIONS[facet] for facet in facets}


def values_of(facet: Facet, aggregation: Mapping[str, Any]) -> tuple[FacetValue, ...]:
    """The values of a facet, the most frequent first."""
    exact = not aggregation.get("doc_count_error_upper_bound")
    found = [
        FacetValue(str(bucket["key"]), bucket["doc_count"], exact)
        for bucket in aggregation["buckets"]
        if bucket["doc_count"]
    ]
    return tuple(sorted(found, key=lambda each: (-each.count, each.value))[:VALUES_SHOWN])


def _singulars(text: str) -> dict[str, None]:
    return dict.fromkeys(singular(word.text) for word in words(text))


def _weight(word: str) -> Clause:
    """The rank of a word: that of the best text which has it."""
    texts = [
        {"constant_score": {"filter": {"term": {f"words.{name}": word}}, "boost": _WEIGHTS[weight]}}
        for name, weight in SEARCHED.items()
    ]
    return {"dis_max": {"queries": texts, "tie_breaker": 0.25}}


def _order(query: SearchQuery) -> list[Clause]:
    newest = [{"listed_at": "desc"}, {"id": "desc"}]
    match query.sort:
        case Sort.RELEVANCE if _singulars(query.q or ""):
            return [{"_score": "desc"}, *newest]
        case Sort.RELEVANCE | Sort.NEWEST:
            return newest
        case Sort.DISTANCE:
            assert query.near is not None, "SearchQuery refuses it"
            by_distance = {"geo": _at(query.near), "order": "asc", "unit": "km"}
            return [{"_geo_distance": by_distance}, *newest]
        case sort:
            return [{_SORTED[sort][0]: _SORTED[sort][1]}, *newest]


def _sign(query: SearchQuery) -> int:
    """-1 where the value of the order rises."""
    falls = query.sort in (Sort.RELEVANCE, Sort.PRICE_DESCENDING, Sort.AREA_DESCENDING)
    return 1 if falls else -1


def _search_after(query: SearchQuery, after: Position) -> list[Any]:
    *value, listed_at, id = after
    return [*(_sign(query) * each for each in value), microseconds(datetime.fromisoformat(listed_at)), id]


def _text(text: str, _: SearchFilters) -> list[Clause]:
    return [{"term": {"words.any": word}} for word in _singulars(text)]


def _one_of(field: str) -> Callable[[Sequence[Any], SearchFilters], list[Clause]]:
    return lambda values, _: [{"terms": {field: list(values)}}]


def _range(field: str, bound: str) -> Callable[[Any, SearchFilters], list[Clause]]:
    return lambda value, _: [{"range": {field: {bound: value}}}]


def _rooms(field: str) -> Callable[[tuple[str, ...], SearchFilters], list[Clause]]:
    def condition(counts: tuple[str, ...], _: SearchFilters) -> list[Clause]:
        rooms = Rooms.of(counts)
        some: list[Clause] = [{"terms": {field: rooms.exactly}}] if rooms.exactly else []
        if rooms.at_least is not None:
            some.append({"range": {field: {"gte": rooms.at_least}}})
        return [_any_of(some)]

    return condition


def _near(near: Point, filters: SearchFilters) -> list[Clause]:
    return [{"geo_distance": {"distance": f"{filters.radius_km}km", "geo": _at(near)}}]


def _box(box: Box, _: SearchFilters) -> list[Clause]:
    corners = {"top": box.north, "left": box.west, "bottom": box.south, "right": box.east}
    return [{"geo_bounding_box": {"geo": corners}}]


def _polygon(shape: Polygons, _: SearchFilters) -> list[Clause]:
    # Not `geo_shape`, which refuses a ring that crosses itself, as one drawn by a finger may.
    return [
        _any_of(
            [
                {"bool": {"filter": [_ring(outer)], "must_not": [_ring(hole) for hole in holes]}}
                for outer, *holes in shape.polygons
            ]
        )
    ]


def _ring(ring: Ring) -> Clause:
    return {"geo_polygon": {"geo": {"points": [[longitude, latitude] for longitude, latitude in ring]}}}


def _any_of(clauses: Sequence[Clause]) -> Clause:
    return {"bool": {"should": clauses, "minimum_should_match": 1}}


def _at(point: Point) -> Clause:
    return {"lat": point.latitude, "lon": point.longitude}


_CONDITIONS: dict[str, Callable[[Any, SearchFilters], list[Clause]]] = {
    "q": _text,
    "location": lambda names, _: [{"terms": {"locality": sorted({locality_key(name) for name in names})}}],
    "pincode": _one_of("pincode"),
    "property_type": _one_of("property_type"),
    "listing_type": _one_of("listing_type"),
    "min_price": _range("price", "gte"),
    "max_price": _range("price", "lte"),
    "min_area": _range("area_sqft", "gte"),
    "max_area": _range("area_sqft", "lte"),
    "bedrooms": _rooms("bedrooms"),
    "min_bedrooms": _range("bedrooms", "gte"),
    "bathrooms": _rooms("bathrooms"),
    "furnished_status": _one_of("furnished_status"),
    "amenities": lambda labels, _: [{"term": {"amenities": key}} for key in sorted({*map(amenity_key, labels)})],
    "facing": _one_of("facing"),
    "min_floor": _range("floor_number", "gte"),
    "max_floor": _range("floor_number", "lte"),
    "max_age": _range("age_of_property", "lte"),
    "rera": lambda wanted, _: [{"term": {"has_rera": wanted}}],
    "posted_by": _one_of("posted_by"),
    "listed_since": lambda since, _: [{"range": {"listed_at": {"gte": microseconds(since)}}}],
    "near": _near,
    "bbox": _box,
    "polygon": _polygon,
}
_SORTED: dict[Sort, tuple[str, Clause]] = {
    Sort.PRICE: ("price", {"order": "asc"}),
    Sort.PRICE_DESCENDING: ("price", {"order": "desc"}),
    Sort.PRICE_PER_SQFT: ("price_per_sqft", {"order": "asc", "missing": _NO_RATE}),
    Sort.AREA: ("area_sqft", {"order": "asc", "missing": _NO_AREA}),
    Sort.AREA_DESCENDING: ("area_sqft", {"order": "desc", "missing": 0}),
}


def _terms(field: str, size: int = VALUES_SHOWN) -> Clause:
    return {"terms": {"field": field, "size": size}}


_LIMITS = [0, *(limit + 1 for limit in PRICE_LIMITS)]
_BANDS = [
    {"key": band, "from": low} | ({"to": high} if high else {})
    for band, (low, high) in zip(PRICE_BANDS, pairwise([*_LIMITS, None]), strict=True)
]
_AGGREGATIONS: dict[Facet, Clause] = {
    Facet.PROPERTY_TYPE: _terms("property_type"),
    Facet.LISTING_TYPE: _terms("listing_type"),
    Facet.BEDROOMS: _terms("bedrooms", _ROOMS),
    Facet.BATHROOMS: _terms("bathrooms", _ROOMS),
    Facet.FURNISHED_STATUS: _terms("furnished_status"),
    Facet.FACING: _terms("facing"),
    Facet.POSTED_BY: _terms("posted_by"),
    Facet.AMENITIES: _terms("amenities"),
    Facet.LOCATION: _terms("locality"),
    Facet.PRICE: {"range": {"field": "price", "ranges": _BANDS}},
}
