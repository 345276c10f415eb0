"""Searching listings: what can be asked, whichever engine answers, and what an answer is."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Self, TypeVar
from uuid import UUID

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError, PydanticKnownError

from domain import fields as f
from domain.geometry import Box, Point, Polygons
from domain.images import ListedImage
from domain.model import Model
from domain.property import Facing, FurnishedStatus, ListingType, PropertyFacts, PropertyType
from domain.property_status import PropertyStatus
from domain.roles import UserRole
from domain.words import words

T = TypeVar("T")

COUNTED_EXACTLY = 10_000
"""Totals and facets are exact up to so many matches, and a lower bound above."""

CHANGES_OF_A_PAGE = 100
"""Listings of a page of those that were changed: as many as the largest page of a search has."""

RoomCount = Annotated[str, Field(pattern=r"^(100|[0-9]{1,2})\+?$", examples=["2", "4+"])]
"""A number of rooms; with `+`, that number or more."""


_EARLIEST, _LATEST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
"""What every engine and time zone can compute with."""


def _in_utc(value: datetime) -> datetime:
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def _within_bounds(value: datetime) -> datetime:
    # By code: of bounds after another validator pydantic writes keys into the JSON schema that it does not know.
    if value < _EARLIEST:
        raise PydanticKnownError("greater_than_equal", {"ge": _EARLIEST.isoformat()})
    if value > _LATEST:
        raise PydanticKnownError("less_than_equal", {"le": _LATEST.isoformat()})
    return value


def _once_each(values: tuple[T, ...]) -> tuple[T, ...]:
    return tuple(dict.fromkeys(values))


Moment = Annotated[datetime, AfterValidator(_in_utc), AfterValidator(_within_bounds)]
"""A time; in UTC if it says no other."""

Several = Annotated[
    tuple[T, ...],
    Field(max_length=20, fail_fast=True),  # otherwise pydantic collects an error for each of 40,000 wrong values
    AfterValidator(_once_each),
]
"""The values of a filter, of which a listing has any."""


class Sort(StrEnum):
    """Orders of results. Listings without the value come last; the newest first among equals."""

    RELEVANCE = "relevance"
    """The newest first where there is no text."""
    PRICE = "price"
    PRICE_DESCENDING = "-price"
    PRICE_PER_SQFT = "pricePerSqft"
    AREA = "area"
    AREA_DESCENDING = "-area"
    NEWEST = "newest"
    """By the time a listing was first public."""
    DISTANCE = "distance"
    """From `near`."""


class SearchFilters(Model):
    """Conditions on listings, all of them at once; of several values of one filter, a listing has any.

    Only active listings are found. Money is in whole rupees, area in square feet. A listing that does not state a field
    matches no condition on it.
    """

    q: f.SearchText | None = None
    """Text over title, description, locality, project and address."""
    location: Several[f.Place] = ()
    """Localities, however they are spelt."""
    pincode: Several[f.Pincode] = ()
    property_type: Several[PropertyType] = ()
    listing_type: Several[ListingType] = ()
    min_price: f.Rupees | None = None
    max_price: f.Rupees | None = None
    min_area: f.SquareFeet | None = None
    max_area: f.SquareFeet | None = None
    bedrooms: Several[RoomCount] = ()
    min_bedrooms: f.Rooms | None = None
    bathrooms: Several[RoomCount] = ()
    furnished_status: Several[FurnishedStatus] = ()
    amenities: Several[f.Label] = ()
    """All of them, whatever their case."""
    facing: Several[Facing] = ()
    min_floor: f.Floor | None = None
    max_floor: f.Floor | None = None
    max_age: f.Years | None = None
    """Of the building."""
    rera: bool | None = None
    """Whether the listing has a RERA registration."""
    posted_by: Several[UserRole] = ()
    """The role that the owner had when they listed it."""
    listed_since: Moment | None = None
    """First public at that time or later."""
    near: Point | None = None
    radius_km: float = Field(5.0, gt=0, le=100)
    """Around `near`."""
    bbox: Box | None = None
    polygon: Polygons | None = None

    @model_validator(mode="after")
    def _check_ranges(self) -> Self:
        for low, high in (("min_price", "max_price"), ("min_area", "max_area"), ("min_floor", "max_floor")):
            least, most = getattr(self, low), getattr(self, high)
            if least is not None and most is not None and least > most:
                advice = f"Give a {_wire(low)} that is not above {_wire(high)}."
                raise PydanticCustomError("empty_range", advice, {"field": _wire(low)})
        return self

    @property
    def given(self) -> dict[str, Any]:
        """The filters that ask for something, by field name.

        A `q` without a word asks for nothing, and `radius_km` belongs to `near`.
        """
        values = {name: getattr(self, name) for name in SearchFilters.model_fields if name != "radius_km"}
        if next(words(self.q or ""), None) is None:
            del values["q"]
        return {name: value for name, value in values.items() if value not in (None, ())}

    def without(self, name: str) -> Self:
        """The same filters without the one of this field name."""
        return self.model_copy(update={name: type(self).model_fields[name].get_default(call_default_factory=True)})


class SearchQuery(SearchFilters):
    """A search: filters, order and page."""

    sort: Sort = Sort.RELEVANCE
    limit: int = Field(20, ge=1, le=100)

    @model_validator(mode="after")
    def _check_sort(self) -> Self:
        if self.sort is Sort.DISTANCE and self.near is None:
            advice = "Give near=latitude,longitude to sort by distance."
            raise PydanticCustomError("no_distance", advice, {"field": "near"})
        return self


@dataclass(frozen=True)
class Rooms:
    """What a filter on rooms asks for: one of `exactly`, or `at_least`."""

    exactly: tuple[int, ...] = ()
    at_least: int | None = None

    @classmethod
    def of(cls, counts: tuple[str, ...]) -> Self:
        """From the values of a filter; of several with `+`, the lowest counts."""
        exactly = tuple(sorted({int(count) for count in counts if not count.endswith("+")}))
        return cls(exactly, min((int(count[:-1]) for count in counts if count.endswith("+")), default=None))


class ListingCard(PropertyFacts):
    """A listing as search shows it: its public state, without contact data."""

    id: UUID
    version: int
    owner_id: UUID
    posted_by: UserRole | None = None
    status: PropertyStatus
    images: tuple[ListedImage, ...] = ()
    is_featured: bool = False
    is_verified: bool = False
    previous_price: f.Rupees | None = None
    created_at: datetime
    updated_at: datetime
    listed_at: datetime | None = None


Position = tuple[Any, ...]
"""The sort key of an item and its id, as JSON values: a page has the items after it."""


@dataclass(frozen=True)
class Hit:
    """A listing that a search has found."""

    card: bytes
    """A ListingCard as JSON."""
    id: UUID
    distance_km: float | None = None
    highlights: Mapping[str, str] = field(default_factory=dict)
    """By field: HTML-escaped text with the matching words in `<mark>`."""
    changed_at: datetime | None = None
    """Of changes: the time of the event, or of an earlier one that came late."""


@dataclass(frozen=True)
class Total:
    """How many listings match: `exact`, or at least so many."""

    value: int
    exact: bool


@dataclass(frozen=True)
class FacetValue:
    """How many listings have a value, under the filters on other fields: `exact`, or at least so many."""

    value: str
    count: int
    exact: bool = True


@dataclass(frozen=True)
class Relaxation:
    """How many listings match without one of the filters."""

    drop: str
    """The JSON name of the filter."""
    total: Total


@dataclass(frozen=True)
class SearchResult:
    """A page of listings; total and facets are those of the whole search, and on the first page only."""

    hits: list[Hit]
    next: Position | None
    total: Total | None = None
    facets: Mapping[str, tuple[FacetValue, ...]] = field(default_factory=dict)
    """By JSON name of the filter; the most frequent values first."""


def _wire(name: str) -> str:
    alias = SearchFilters.model_fields[name].alias
    return alias or name
