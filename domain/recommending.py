"""Similar and recommended listings: which searches find candidates, and how they are ranked, each with its reason."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self
from uuid import UUID

from domain.amounts import rupees
from domain.gazetteer import locality_key
from domain.geometry import Point
from domain.model import Model
from domain.property import ListingType, PropertyType
from domain.search import SearchFilters, SearchQuery, Sort

_KIN: tuple[frozenset[PropertyType], ...] = (
    frozenset({PropertyType.APARTMENT, PropertyType.STUDIO}),
    frozenset({PropertyType.HOUSE, PropertyType.VILLA, PropertyType.FARMHOUSE}),
    frozenset({PropertyType.OFFICE, PropertyType.COMMERCIAL, PropertyType.SHOP, PropertyType.WAREHOUSE}),
    frozenset({PropertyType.PLOT}),
)
"""Types of which one may serve instead of another."""
_RADIUS_KM = 5.0
"""Beyond it, a listing is in another part of the town."""
_NEARBY_KM = 2.0
"""What is called nearby: half an hour on foot."""
_PRICE_BAND = 1.5
"""Listings for two thirds to one and a half of the price are candidates."""
_MAX_PRICE = 10**12
"""The highest that a filter takes."""
_CANDIDATES = 50
"""Of one search. The best ten of a hundred and fifty are hardly different from those of more."""
_WEIGHTS = {"place": 0.35, "price": 0.25, "bedrooms": 0.15, "type": 0.15, "area": 0.10}
_UNKNOWN = 0.4
"""The likeness of a value that one of the two listings does not state."""
_REPEATED = 0.85
"""By how much an interest counts less after each listing that it has recommended, so that others have their turn."""


class ReasonKind(StrEnum):
    """Why a listing is shown."""

    NEARBY = "NEARBY"
    SAME_LOCALITY = "SAME_LOCALITY"
    SIMILAR = "SIMILAR"
    """In price and size."""
    FAVORITE = "FAVORITE"
    """Similar to a favourite."""
    VIEWED = "VIEWED"
    """Similar to a listing that was viewed."""
    SEARCHED = "SEARCHED"
    POPULAR = "POPULAR"
    NEWEST = "NEWEST"


class Reason(Model):
    """Why a listing is shown."""

    kind: ReasonKind
    text: str
    """One line to show."""
    property_id: UUID | None = None
    """The listing that it is similar to."""


@dataclass(frozen=True)
class Home:
    """What is compared of two listings."""

    id: UUID
    owner_id: UUID
    title: str
    location: str
    property_type: PropertyType
    listing_type: ListingType
    price: int
    bedrooms: int | None = None
    area_sqft: int | None = None
    at: Point | None = None

    @classmethod
    def of(cls, listing: Mapping[str, Any]) -> Self:
        """From the JSON of a listing."""
        latitude, longitude = listing.get("latitude"), listing.get("longitude")
        return cls(
            id=UUID(listing["id"]),
            owner_id=UUID(listing["ownerId"]),
            title=listing["title"],
            location=listing["location"],
            property_type=PropertyType(listing["propertyType"]),
            listing_type=ListingType(listing["listingType"]),
            price=listing["price"],
            bedrooms=listing.get("bedrooms"),
            area_sqft=listing.get("areaSqft"),
            # Not validated: what is stored was, by the rules of its day.
            at=None
            if latitude is None or longitude is None
            else Point.model_construct(latitude=latitude, longitude=longitude),
        )


@dataclass(frozen=True)
class Interest:
    """What a user is interested in: a listing that they liked or viewed, or a search of theirs."""

    kind: ReasonKind
    weight: float
    home: Home | None = None
    filters: SearchFilters | None = None
    name: str | None = None
    """Of a saved search."""


@dataclass(frozen=True)
class Candidate:
    """A listing that the searches of an interest have found; `views` are those of everybody."""

    home: Home
    interest: int = 0
    """The index of the interest."""
    views: int = 0


Shown = tuple[UUID, Reason]
"""The id of a listing to show, and why."""


def queries_for(home: Home) -> list[SearchQuery]:
    """The searches that find listings similar to one: around it, in its locality, and for its price elsewhere."""
    low, high = max(round(home.price / _PRICE_BAND), 1), min(round(home.price * _PRICE_BAND), _MAX_PRICE)
    deal: dict[str, Any] = {"listing_type": (home.listing_type,), "limit": _CANDIDATES}
    kin = {"property_type": tuple(sorted(_kin(home.property_type)))}
    queries = [SearchQuery(**deal, **kin, location=(home.location,), sort=Sort.NEWEST)]
    if home.at:
        around = {"near": home.at, "radius_km": _RADIUS_KM, "min_price": low, "max_price": high}
        queries.append(SearchQuery(**deal, **kin, **around, sort=Sort.DISTANCE))
    rooms = {} if home.bedrooms is None else {"bedrooms": (str(home.bedrooms),)}
    same = {"property_type": (home.property_type,), "min_price": low, "max_price": high}
    return [*queries, SearchQuery(**deal, **same, **rooms, sort=Sort.NEWEST)]


def queries_of(interest: Interest) -> list[SearchQuery]:
    """The searches that find candidates for an interest."""
    if interest.filters is not None:
        return [SearchQuery(**dict(interest.filters), sort=Sort.NEWEST, limit=_CANDIDATES)]
    assert interest.home is not None
    return queries_for(interest.home)


def similar(home: Home, candidates: Sequence[Home], limit: int, viewer: UUID | None = None) -> list[Shown]:
    """The listings most similar to one, with reasons; without that listing, and those that `viewer` owns."""
    others = {one.id: one for one in candidates if one.id != home.id and one.owner_id != viewer}
    ranked = sorted(others.values(), key=lambda one: (-likeness(home, one), one.id))
    return [(one.id, _why_similar(home, one)) for one in ranked[:limit]]


def recommended(
    interests: Sequence[Interest],
    candidates: Sequence[Candidate],
    limit: int,
    known: Collection[UUID] = (),
    viewer: UUID | None = None,
) -> list[Shown]:
    """The listings that suit a user's interests best, each with the interest that it suits as reason.

    `known` are listings that the user, `viewer`, has liked or viewed. Each interest counts less after each listing that
    it has recommended: otherwise the strongest would fill the whole list.
    """
    scores: dict[UUID, dict[int, float]] = {}
    for one in candidates:
        if one.home.id in known or one.home.owner_id == viewer:
            continue
        score = _suits(interests[one.interest], one.home)
        of = scores.setdefault(one.home.id, {})
        of[one.interest] = max(score, of.get(one.interest, 0.0))
    factors, chosen = [1.0] * len(interests), list[Shown]()
    while scores and len(chosen) < limit:
        _, id, n = min((-score * factors[n], id, n) for id, of in scores.items() for n, score in of.items())
        chosen.append((id, _why_recommended(interests[n])))
        factors[n] *= _REPEATED
        del scores[id]
    return chosen


def popular(candidates: Sequence[Candidate], limit: int, viewer: UUID | None = None) -> list[Shown]:
    """The most viewed of the newest listings, then the newest, for somebody of whom nothing is known.

    Half of them are the most viewed, so that what nobody has seen yet has a chance too. `candidates` are ordered by
    the time of listing, newest first.
    """
    fresh = [one for one in candidates if one.home.owner_id != viewer]
    viewed = sorted((one for one in fresh if one.views), key=lambda one: (-one.views, one.home.id))[: (limit + 1) // 2]
    chosen = [
        (
            one.home.id,
            Reason(kind=ReasonKind.POPULAR, text=f"Viewed {'once' if one.views == 1 else f'{one.views} times'}"),
        )
        for one in viewed
    ]
    shown = {id for id, _ in chosen}
    newest = [(one.home.id, _NEWEST) for one in fresh if one.home.id not in shown]
    return [*chosen, *newest][:limit]


_NEWEST = Reason(kind=ReasonKind.NEWEST, text="Recently listed")


def likeness(home: Home, other: Home) -> float:
    """How similar two listings are, from 0 to 1."""
    parts = {
        "place": _place(home, other),
        "price": _ratio(home.price, other.price, _PRICE_BAND),
        "bedrooms": _steps(home.bedrooms, other.bedrooms),
        "type": 1.0 if home.property_type is other.property_type else 0.5 * _is_kin(home, other),
        "area": _ratio(home.area_sqft, other.area_sqft, 2.0),
    }
    return sum(_WEIGHTS[name] * value for name, value in parts.items())


def distance_km(a: Point, b: Point) -> float:
    """On the plane, which is off by less than a thousandth within a town."""
    east = (a.longitude - b.longitude) * math.cos(math.radians((a.latitude + b.latitude) / 2))
    return math.hypot(east, a.latitude - b.latitude) * 111.195


def _suits(interest: Interest, home: Home) -> float:
    # What a search finds has all that was asked for.
    return interest.weight * (likeness(interest.home, home) if interest.home else 0.8)


def _place(home: Home, other: Home) -> float:
    if home.at and other.at:
        return max(0.0, 1 - distance_km(home.at, other.at) / _RADIUS_KM)
    return 0.8 if _same_locality(home, other) else 0.0


def _same_locality(home: Home, other: Home) -> bool:
    return locality_key(home.location) == locality_key(other.location)


def _ratio(a: int | None, b: int | None, far: float) -> float:
    """1 for equal values, 0 for those that differ by a factor of `far` or more."""
    if not a or not b:
        return _UNKNOWN
    return max(0.0, 1 - abs(math.log(a / b)) / math.log(far))


def _steps(a: int | None, b: int | None) -> float:
    if a is None or b is None:
        return 1.0 if a is b else _UNKNOWN
    return max(0.0, 1 - abs(a - b) / 2)


def _kin(type: PropertyType) -> frozenset[PropertyType]:
    return next(kin for kin in _KIN if type in kin)


def _is_kin(home: Home, other: Home) -> bool:
    return other.property_type in _kin(home.property_type)


def _why_similar(home: Home, other: Home) -> Reason:
    kind, text = ReasonKind.SIMILAR, f"Similar {'price' if home.area_sqft is None else 'price and size'}"
    if home.at and other.at and (away := distance_km(home.at, other.at)) <= _NEARBY_KM:
        kind, text = ReasonKind.NEARBY, f"{max(round(away, 1), 0.1)} km away"
    elif _same_locality(home, other):
        kind, text = ReasonKind.SAME_LOCALITY, f"Also in {other.location}"
    elif _ratio(home.price, other.price, _PRICE_BAND) == 0:
        text = f"Also in {other.location}"
    cheaper = home.price - other.price
    if cheaper > home.price * 0.05:
        text += f", {rupees(cheaper)} less"
    return Reason(kind=kind, text=text, property_id=home.id)


def _why_recommended(interest: Interest) -> Reason:
    if interest.home is None:
        text = f"Matches your saved search “{interest.name}”" if interest.name else "Matches a search of yours"
        return Reason(kind=ReasonKind.SEARCHED, text=text)
    what = "your favourite" if interest.kind is ReasonKind.FAVORITE else "a listing that you viewed"
    return Reason(kind=interest.kind, text=f"Similar to {what}: {interest.home.title}", property_id=interest.home.id)
