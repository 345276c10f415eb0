"""A plain model of search, to compare engines with: listings in a list, and what each filter and order means."""

import itertools
import math
import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from hypothesis import strategies as st

from domain.events import KINDS, Event
from domain.geometry import Polygons
from domain.property import Facing, FurnishedStatus, ListingType, PropertyType
from domain.property_events import PropertyCreated, PropertyDeleted, PropertyUpdated
from domain.property_status import PropertyStatus
from domain.roles import UserRole
from domain.search import ListingCard, SearchFilters, Sort
from tests.samples import new_id

LOCALITIES = ("Gachibowli", "Kondapur", "Hitech City", "Café Colony", "Uppal")
_SPELT = {"Café Colony": "cafe colony", "Hitech City": "HITECH  CITY"}
AMENITIES = ("Gym", "Lift", "Swimming Pool", "Power backup")
_WORDS = [
    "flat",
    "villa",
    "villas",
    "lake",
    "park",
    "parking",
    "metro",
    "view",
    "city",
    "cities",
    "school",
    "Café",
    "3BHK",
    "corner",
    "<b>bright</b>",
    "owner's",
]
_BEGUN = datetime(2026, 1, 1, tzinfo=UTC)
_LATITUDES = [17.30 + n * 0.02 for n in range(10)]
_LONGITUDES = [78.30 + n * 0.02 for n in range(10)]


def listed(chance: random.Random, n: int, **given: Any) -> ListingCard:
    """A random active listing; the `n`th listed. Many fields are not stated, and values repeat."""
    at = _BEGUN + timedelta(hours=n)
    has_point = chance.random() < 0.8
    values: dict[str, Any] = {
        "id": new_id(),
        "version": 1,
        "ownerId": new_id(),
        "postedBy": chance.choice([None, UserRole.USER, UserRole.AGENT, UserRole.BUILDER]),
        "status": PropertyStatus.ACTIVE,
        "createdAt": at,
        "updatedAt": at,
        "listedAt": at,
        "title": "A " + " ".join(chance.choices(_WORDS, k=4)),
        "description": " ".join(chance.choices(_WORDS, k=12)),
        "price": chance.choice([2_000_000, 4_500_000, 8_500_000, 8_500_000, 30_000_000]),
        "location": chance.choice(LOCALITIES),
        "propertyType": chance.choice(list(PropertyType)[:5]),
        "listingType": chance.choice(list(ListingType)),
        "address": chance.choice([None, "12 Lake Road", "Metro Pillar 7, Main Road"]),
        "pincode": chance.choice([None, "500032", "500081"]),
        "bedrooms": chance.choice([None, 0, 1, 2, 3, 4, 6]),
        "bathrooms": chance.choice([None, 1, 2, 3]),
        "areaSqft": chance.choice([None, 600, 1_200, 1_200, 1_800, 5_000]),
        "floorNumber": chance.choice([None, -1, 0, 5, 12]),
        "ageOfProperty": chance.choice([None, 0, 3, 10]),
        "facing": chance.choice([None, Facing.EAST, Facing.WEST]),
        "furnishedStatus": chance.choice([None, *FurnishedStatus]),
        "amenities": tuple(
            chance.choice([name, name.upper()]) for name in chance.sample(AMENITIES, chance.randint(0, 3))
        ),
        "latitude": chance.choice(_LATITUDES) if has_point else None,
        "longitude": chance.choice(_LONGITUDES) if has_point else None,
        "reraId": chance.choice([None, "P02400001234"]),
        **given,
    }
    return ListingCard.model_validate(values)


def event_of(
    card: ListingCard,
    tenant: str,
    version: int = 1,
    *,
    at: datetime | None = None,
    status: PropertyStatus | None = None,
) -> Event:
    """The event that makes a listing what the card shows: PROPERTY_CREATED, later PROPERTY_UPDATED."""
    shown = {name: getattr(card, name) for name in ListingCard.model_fields}
    state = {name: value for name, value in shown.items() if name in PropertyCreated.model_fields}
    state |= {"property_id": card.id, **({"status": status} if status else {})}
    fact = PropertyCreated(**state) if version == 1 else PropertyUpdated(changed=("title",), **state)
    return _event(fact, card.id, tenant, version, at or card.updated_at)


def deletion_of(card: ListingCard, tenant: str, version: int) -> Event:
    fact = PropertyDeleted(property_id=card.id, owner_id=card.owner_id, title=card.title, location=card.location)
    return _event(fact, card.id, tenant, version, card.updated_at + timedelta(days=1))


def _event(fact: Any, property_id: UUID, tenant: str, version: int, at: datetime) -> Event:
    name = next(kind.name for kind in KINDS.values() if kind.model is type(fact))
    return Event(
        event_id=new_id(),
        aggregate_id=property_id,
        user_id=fact.owner_id,
        tenant_id=tenant,
        event_type=name,
        timestamp=at,
        version=version,
        schema_version=KINDS[name].schema_version,
        command_id=new_id(),
        data=fact,
    )


def found(cards: Sequence[ListingCard], filters: SearchFilters) -> set[UUID]:
    """The listings that meet all of the filters."""
    return {card.id for card in cards if meets(card, filters)}


def meets(card: ListingCard, filters: SearchFilters) -> bool:
    return all(_MEETS[name](card, value, filters) for name, value in filters.given.items())


def in_order(cards: Sequence[ListingCard], sort: Sort) -> list[UUID]:
    """Their ids in the order of a sort by a value: listings without it last, the newest first among equals."""
    value, sign = _VALUES[sort]

    def key(card: ListingCard) -> tuple[bool, float, float]:
        worth = value(card)
        assert card.listed_at is not None
        return worth is None, sign * (worth or 0), -card.listed_at.timestamp()

    return [card.id for card in sorted(cards, key=key)]


def _per_sqft(card: ListingCard) -> float | None:
    return card.price / card.area_sqft if card.area_sqft else None


_VALUES: dict[Sort, tuple[Callable[[ListingCard], float | None], int]] = {
    Sort.NEWEST: (lambda _: 0.0, 1),
    Sort.PRICE: (lambda card: card.price, 1),
    Sort.PRICE_DESCENDING: (lambda card: card.price, -1),
    Sort.PRICE_PER_SQFT: (_per_sqft, 1),
    Sort.AREA: (lambda card: card.area_sqft, 1),
    Sort.AREA_DESCENDING: (lambda card: card.area_sqft, -1),
}


def kilometres(card: ListingCard, latitude: float, longitude: float) -> float:
    """The distance on a sphere (haversine)."""
    assert card.latitude is not None
    assert card.longitude is not None
    a, b, c, d = map(math.radians, (card.latitude, card.longitude, latitude, longitude))
    half = math.sin((c - a) / 2) ** 2 + math.cos(a) * math.cos(c) * math.sin((d - b) / 2) ** 2
    return 2 * 6371.0 * math.asin(math.sqrt(half))


def is_inside(shape: Polygons, longitude: float, latitude: float) -> bool:
    """Whether a point is in a polygon and in none of its holes: a ray to the east crosses their rings oddly often."""
    return any(
        _crosses(outer, longitude, latitude) and not any(_crosses(hole, longitude, latitude) for hole in holes)
        for outer, *holes in shape.polygons
    )


def is_on_edge(cards: Sequence[ListingCard], filters: SearchFilters) -> bool:
    """Whether a listing is so near an edge of an area, some ten metres or 0.2 % of a radius, that rounding decides."""
    points = {(card.longitude, card.latitude): card for card in cards if card.latitude is not None}
    near, shape = filters.near, filters.polygon
    if near:
        distances = [kilometres(card, near.latitude, near.longitude) for card in points.values()]
        if any(abs(distance - filters.radius_km) < 0.002 * filters.radius_km for distance in distances):
            return True
    edges = [edge for rings in shape.polygons for ring in rings for edge in itertools.pairwise(ring)] if shape else []
    return any(
        abs((x2 - x1) * (y - y1) - (x - x1) * (y2 - y1)) < 1e-5
        for (x1, y1), (x2, y2) in edges
        for x, y in points
        if x is not None and y is not None
    )


def _crosses(ring: Sequence[tuple[float, float]], longitude: float, latitude: float) -> bool:
    odd = False
    for (x1, y1), (x2, y2) in itertools.pairwise(ring):
        if (y1 > latitude) != (y2 > latitude) and longitude < (x2 - x1) * (latitude - y1) / (y2 - y1) + x1:
            odd = not odd
    return odd


def _rooms(value: int | None, counts: Sequence[str]) -> bool:
    if value is None:
        return False
    return any(value >= int(count[:-1]) if count.endswith("+") else value == int(count) for count in counts)


_TEXTS = {
    # What a person would say that the words of `_WORDS`, and those of the other texts, are found by.
    "flat": {"flat"}, "villa": {"villa", "villas"}, "villas": {"villa", "villas"}, "lake": {"lake"},
    "park": {"park"}, "parking": {"parking"}, "metro": {"metro"}, "cities": {"city", "cities"},
    "city": {"city", "cities"}, "cafe": {"Café"}, "CAFÉ": {"Café"}, "bhk": {"3BHK"}, "3 bhk": {"3BHK"},
    "bright": {"<b>bright</b>"}, "owner": {"owner's"}, "pillar": {"Pillar"}, "castle": set(),
}  # fmt: skip


def _has_text(card: ListingCard, text: str, _: SearchFilters) -> bool:
    """For a text of `_TEXTS` joined by `, `."""
    there = {
        word.lower().rstrip(",")
        for field in (card.title, card.description, card.location, card.address or "")
        for word in field.split()
    }
    return all(there & {word.lower() for word in _TEXTS[part]} for part in text.split(", "))


_Meets = Callable[[ListingCard, Any, SearchFilters], bool]


def _at_least(field: str) -> _Meets:
    return lambda card, least, _: (value := getattr(card, field)) is not None and value >= least


def _at_most(field: str) -> _Meets:
    return lambda card, most, _: (value := getattr(card, field)) is not None and value <= most


def _any_of(field: str) -> _Meets:
    return lambda card, values, _: getattr(card, field) in values


_MEETS: dict[str, _Meets] = {
    "q": _has_text,
    "location": lambda card, names, _: (
        _SPELT.get(card.location, card.location).split() in [_SPELT.get(name, name).split() for name in names]
    ),
    "pincode": _any_of("pincode"),
    "property_type": _any_of("property_type"),
    "listing_type": _any_of("listing_type"),
    "min_price": _at_least("price"),
    "max_price": _at_most("price"),
    "min_area": _at_least("area_sqft"),
    "max_area": _at_most("area_sqft"),
    "bedrooms": lambda card, counts, _: _rooms(card.bedrooms, counts),
    "min_bedrooms": _at_least("bedrooms"),
    "bathrooms": lambda card, counts, _: _rooms(card.bathrooms, counts),
    "furnished_status": _any_of("furnished_status"),
    "amenities": lambda card, labels, _: (
        {label.lower() for label in labels} <= {label.lower() for label in card.amenities}
    ),
    "facing": _any_of("facing"),
    "min_floor": _at_least("floor_number"),
    "max_floor": _at_most("floor_number"),
    "max_age": _at_most("age_of_property"),
    "rera": lambda card, wanted, _: (card.rera_id is not None) == wanted,
    "posted_by": _any_of("posted_by"),
    "listed_since": lambda card, since, _: card.listed_at is not None and card.listed_at >= since,
    "near": lambda card, near, filters: (
        card.latitude is not None and kilometres(card, near.latitude, near.longitude) <= filters.radius_km
    ),
    "bbox": lambda card, box, _: (
        card.latitude is not None
        and card.longitude is not None
        and box.west <= card.longitude <= box.east
        and box.south <= card.latitude <= box.north
    ),
    "polygon": lambda card, shape, _: (
        card.latitude is not None and card.longitude is not None and is_inside(shape, card.longitude, card.latitude)
    ),
}


def _some(values: Sequence[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(list(values)), min_size=1, max_size=3, unique=True)


# Between the points of listings, so that rounding decides nothing.
_BETWEEN_LATITUDES = st.sampled_from([17.2931 + n * 0.02 for n in range(11)])
_BETWEEN_LONGITUDES = st.sampled_from([78.2931 + n * 0.02 for n in range(11)])
_ROOM_COUNTS = ("0", "1", "2", "3", "2+", "4+", "6+")


@st.composite
def _ranges(draw: st.DrawFn, name: str, values: Sequence[int]) -> dict[str, Any]:
    low, high = sorted((draw(st.sampled_from(values)), draw(st.sampled_from(values))))
    ends = {f"min{name}": low, f"max{name}": high}
    return {end: ends[end] for end in draw(st.sets(st.sampled_from(list(ends)), min_size=1))}


@st.composite
def _boxes(draw: st.DrawFn) -> dict[str, float]:
    west, east = sorted(draw(st.lists(_BETWEEN_LONGITUDES, min_size=2, max_size=2, unique=True)))
    south, north = sorted(draw(st.lists(_BETWEEN_LATITUDES, min_size=2, max_size=2, unique=True)))
    return {"west": west, "south": south, "east": east, "north": north}


def _ring(box: dict[str, float]) -> list[list[float]]:
    west, south, east, north = (box[side] for side in ("west", "south", "east", "north"))
    return [[west, south], [east, south], [east, north], [west, north], [west, south]]


@st.composite
def _triangles(draw: st.DrawFn) -> list[list[float]]:
    # Irrational slopes: no listing is on an edge.
    corners = [
        [draw(_BETWEEN_LONGITUDES) + 0.00037 * n, draw(_BETWEEN_LATITUDES) + 0.00053 * (n + 1)] for n in range(3)
    ]
    (a, b), (c, d), (e, f) = corners
    if abs((c - a) * (f - b) - (e - a) * (d - b)) < 1e-5:
        corners[2] = [e + 0.0441, f - 0.0313]
    return [*corners, corners[0]]


@st.composite
def _polygons(draw: st.DrawFn) -> dict[str, Any]:
    """Triangles, boxes with holes, and several of them."""
    polygons = []
    for _ in range(draw(st.integers(1, 3))):
        if draw(st.booleans()):
            polygons.append([draw(_triangles())])
        else:
            polygons.append([_ring(draw(_boxes())), *(_ring(draw(_boxes())) for _ in range(draw(st.integers(0, 2))))])
    if len(polygons) == 1 and draw(st.booleans()):
        return {"type": "Polygon", "coordinates": polygons[0]}
    return {"type": "MultiPolygon", "coordinates": polygons}


@st.composite
def filters(draw: st.DrawFn) -> SearchFilters:
    """Any combination of up to five filters."""
    made: dict[str, st.SearchStrategy[dict[str, Any]]] = {
        "q": st.lists(st.sampled_from(list(_TEXTS)), min_size=1, max_size=2).map(lambda parts: {"q": ", ".join(parts)}),
        "location": _some([*LOCALITIES, *_SPELT.values(), "Nowhere"]).map(lambda names: {"location": names}),
        "pincode": _some(["500032", "500081", "500099"]).map(lambda codes: {"pincode": codes}),
        "types": _some(list(PropertyType)).map(lambda types: {"propertyType": types}),
        "listing": _some(list(ListingType)).map(lambda types: {"listingType": types}),
        "price": _ranges("Price", [1, 2_000_000, 4_500_001, 8_500_000, 10**12]),
        "area": _ranges("Area", [1, 600, 1_200, 1_201, 5_000]),
        "floor": _ranges("Floor", [-5, -1, 0, 6, 200]),
        "bedrooms": _some(_ROOM_COUNTS).map(lambda counts: {"bedrooms": counts}),
        "min_bedrooms": st.sampled_from([0, 2, 7]).map(lambda least: {"minBedrooms": least}),
        "bathrooms": _some(_ROOM_COUNTS).map(lambda counts: {"bathrooms": counts}),
        "furnished": _some(list(FurnishedStatus)).map(lambda some: {"furnishedStatus": some}),
        "amenities": _some([*AMENITIES, "gym", "LIFT", "Helipad"]).map(lambda labels: {"amenities": labels}),
        "facing": _some(list(Facing)).map(lambda sides: {"facing": sides}),
        "age": st.sampled_from([0, 3, 9]).map(lambda most: {"maxAge": most}),
        "rera": st.booleans().map(lambda wanted: {"rera": wanted}),
        "posted": _some(list(UserRole)).map(lambda roles: {"postedBy": roles}),
        "since": st.integers(0, 150).map(lambda n: {"listedSince": _BEGUN + timedelta(hours=n)}),
        "near": st.builds(
            lambda latitude, longitude, radius: {
                "near": {"latitude": latitude, "longitude": longitude},
                "radiusKm": radius,
            },
            _BETWEEN_LATITUDES,
            _BETWEEN_LONGITUDES,
            st.sampled_from([0.5, 2.1, 7.3, 40.0]),
        ),
        "bbox": _boxes().map(lambda box: {"bbox": box}),
        "polygon": _polygons().map(lambda shape: {"polygon": shape}),
    }
    chosen = draw(st.lists(st.sampled_from(list(made)), min_size=1, max_size=5, unique=True))
    values: dict[str, Any] = {}
    for name in chosen:
        values |= draw(made[name])
    return SearchFilters.model_validate(values)
