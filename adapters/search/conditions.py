"""The filters of a search as conditions of SQL on `listings`: the same for pages, totals and facets."""

from collections.abc import Callable, Collection
from typing import Any

from sqlalchemy import (
    ARRAY,
    Boolean,
    Column,
    ColumnElement,
    Double,
    Text,
    and_,
    any_,
    bindparam,
    cast,
    func,
    literal,
    not_,
    or_,
)
from sqlalchemy.dialects.postgresql import TSQUERY

from adapters.search.rows import quoted
from adapters.tables import KM_PER_UNIT, WIDTH_OF_DEGREE, Circle, Polygon, listings
from domain.amenities import amenity_key
from domain.gazetteer import locality_key
from domain.geometry import Box, Point, Polygons, Ring
from domain.search import Rooms, SearchFilters
from domain.words import forms, words

Condition = ColumnElement[bool]


def conditions(filters: SearchFilters, *, without: str | None = None) -> list[Condition]:
    """The conditions of the filters, all of which a listing must meet, but of the one of the field name `without`."""
    return [condition for name, condition in by_field(filters).items() if name != without]


def by_field(filters: SearchFilters) -> dict[str, Condition]:
    """The condition of each filter, by its field name."""
    found = {name: _CONDITIONS[name](value, filters) for name, value in filters.given.items() if name in _CONDITIONS}
    return {name: condition for name, condition in found.items() if condition is not None}


def text_query(text: str) -> str | None:
    """The tsquery of a text: all of its words, each in singular or plural; None where it has no words."""
    groups = dict.fromkeys(f"({' | '.join(map(quoted, forms(word.text)))})" for word in words(text))
    return " & ".join(groups) or None


def matches(query: str) -> Condition:
    """Whether a listing has the words of a tsquery, such as a `text_query`."""
    return listings.c.words.bool_op("@@")(cast(literal(query, Text), TSQUERY))


def distance_to(near: Point) -> ColumnElement[float]:
    """From the point, in units of the map: `KM_PER_UNIT` kilometres."""
    return listings.c.geo.op("<->", return_type=Double())(_point(near.longitude, near.latitude))


def _one_of(column: Column[Any]) -> Callable[[Collection[Any], SearchFilters], Condition]:
    def condition(values: Collection[Any], _: SearchFilters) -> Condition:
        return _is_any(column, values)

    return condition


def _is_any(column: ColumnElement[Any], values: Collection[Any]) -> Condition:
    # Of a single value the planner knows that rows come in the order of an index's other columns.
    if len(values) == 1:
        is_it: Condition = column == next(iter(values))
        return is_it
    is_one: Condition = column == any_(bindparam(None, list(values), type_=ARRAY(column.type), unique=True))
    return is_one


def _rooms(column: Column[Any]) -> Callable[[tuple[str, ...], SearchFilters], Condition]:
    def condition(counts: tuple[str, ...], _: SearchFilters) -> Condition:
        rooms = Rooms.of(counts)
        exactly = [_is_any(column, rooms.exactly)] if rooms.exactly else []
        return or_(*exactly, *([] if rooms.at_least is None else [column >= rooms.at_least]))

    return condition


def _text(text: str, _: SearchFilters) -> Condition | None:
    query = text_query(text)
    return None if query is None else matches(query)


def _locality(names: tuple[str, ...], _: SearchFilters) -> Condition:
    return _is_any(listings.c.locality, {locality_key(name) for name in names})


def _amenities(labels: tuple[str, ...], _: SearchFilters) -> Condition:
    keys = sorted({amenity_key(label) for label in labels})
    return listings.c.amenities.bool_op("@>")(bindparam(None, keys, type_=ARRAY(Text), unique=True))


def _near(near: Point, filters: SearchFilters) -> Condition:
    circle = func.circle(_point(near.longitude, near.latitude), _number(filters.radius_km / KM_PER_UNIT), type_=Circle)
    return _inside(circle)


def _box(box: Box, _: SearchFilters) -> Condition:
    return _inside(func.box(_point(box.west, box.south), _point(box.east, box.north)))


def _polygon(shape: Polygons, _: SearchFilters) -> Condition:
    return or_(
        *(
            and_(_inside(_ring(outer)), *(not_(_inside(_ring(hole))) for hole in holes))
            for outer, *holes in shape.polygons
        )
    )


def _inside(shape: ColumnElement[Any]) -> Condition:
    return listings.c.geo.op("<@", is_comparison=True, return_type=Boolean())(shape)


def _ring(ring: Ring) -> ColumnElement[Any]:
    # Computed here as Postgres computes `geo`, in doubles, so that a listing on a vertex is on it there too.
    text = ",".join(f"({longitude * WIDTH_OF_DEGREE!r},{latitude!r})" for longitude, latitude in ring[:-1])
    return cast(literal(f"({text})", Text), Polygon)


def _point(longitude: float, latitude: float) -> ColumnElement[Any]:
    return func.point(_number(longitude * WIDTH_OF_DEGREE), _number(latitude))


def _number(value: float) -> ColumnElement[float]:
    return cast(literal(value, Double), Double)


_C = listings.c
_CONDITIONS: dict[str, Callable[[Any, SearchFilters], Condition | None]] = {
    "q": _text,
    "location": _locality,
    "pincode": _one_of(_C.pincode),
    "property_type": _one_of(_C.property_type),
    "listing_type": _one_of(_C.listing_type),
    "min_price": lambda least, _: _C.price >= least,
    "max_price": lambda most, _: _C.price <= most,
    "min_area": lambda least, _: _C.area_sqft >= least,
    "max_area": lambda most, _: _C.area_sqft <= most,
    "bedrooms": _rooms(_C.bedrooms),
    "min_bedrooms": lambda least, _: _C.bedrooms >= least,
    "bathrooms": _rooms(_C.bathrooms),
    "furnished_status": _one_of(_C.furnished_status),
    "amenities": _amenities,
    "facing": _one_of(_C.facing),
    "min_floor": lambda least, _: _C.floor_number >= least,
    "max_floor": lambda most, _: _C.floor_number <= most,
    "max_age": lambda most, _: _C.age_of_property <= most,
    "rera": lambda wanted, _: _C.has_rera == literal(wanted, Boolean),
    "posted_by": _one_of(_C.posted_by),
    "listed_since": lambda since, _: _C.listed_at >= since,
    "near": _near,
    "bbox": _box,
    "polygon": _polygon,
}
