"""What a request to search asks: as parameters of a URL, or as a JSON body."""

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

from fastapi.exceptions import RequestValidationError
from pydantic import BeforeValidator, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from domain import fields as f
from domain.clusters import MAX_ZOOM
from domain.model import Model
from domain.property import Facing, FurnishedStatus, ListingType, PropertyType
from domain.roles import UserRole
from domain.search import SearchFilters, SearchQuery, Sort


class AreaUnit(StrEnum):
    """Units of `minArea` and `maxArea`."""

    SQFT = "SQFT"
    SQM = "SQM"
    SQYD = "SQYD"
    """Also called gaj."""
    ACRE = "ACRE"
    GUNTA = "GUNTA"
    """A fortieth of an acre."""


SQUARE_FEET = {
    AreaUnit.SQFT: 1.0,
    AreaUnit.SQM: 10.763910416709722,  # of 0.3048 m, exactly
    AreaUnit.SQYD: 9.0,
    AreaUnit.ACRE: 43_560.0,
    AreaUnit.GUNTA: 1_089.0,
}
_LISTS = {
    field.alias or name for name, field in SearchFilters.model_fields.items() if "tuple[" in str(field.annotation)
}
_ROOM_LISTS = {"bedrooms", "bathrooms"}
_SHAPES = {"near": ("latitude", "longitude"), "bbox": ("west", "south", "east", "north")}
_NOT_ASKED = {"areaUnit", "cursor", "interpret", "zoom"}

Area = Annotated[float, Field(gt=0, le=10**8)]
SearchCursor = Annotated[
    str | None,
    Field(
        max_length=4000,  # it has the filters that were read from `q`, and its words, of which each may be four bytes
        description="nextCursor of the previous page of the same search; leave it out for the first page",
        json_schema_extra={"pattern": "^[A-Za-z0-9_-]+$"},
    ),
]


def _in_utc(value: Any) -> Any:
    """A time without an offset is in UTC. A `+` that a client has not encoded arrives as a space."""
    if isinstance(value, str):
        value = re.sub(r" (?=[0-9]{2}:?[0-9]{2}$)", "+", value) if "T" in value else value
        try:
            value = datetime.fromisoformat(value)
        except ValueError as error:
            advice = "Give a time, such as 2026-11-01T00:00:00Z, or a date."
            raise PydanticCustomError("time", advice) from error
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) and value.tzinfo is None else value


Since = Annotated[datetime | None, BeforeValidator(_in_utc)]
_SEVERAL = "Several are separated by commas, or the parameter is repeated: a listing has any of them."


class FilterParameters(Model):
    """The filters of a search by URL."""

    q: f.SearchText | None = None
    """What a person types: text over title, description, locality, project and address."""
    location: list[str] = Field([], description=f"Localities, however they are spelt. {_SEVERAL}")
    pincode: list[str] = Field([], description=_SEVERAL)
    property_type: list[str] = Field([], description=f"{', '.join(PropertyType)}. {_SEVERAL}")
    listing_type: list[str] = Field([], description=f"{', '.join(ListingType)}. {_SEVERAL}")
    min_price: int | None = None
    """Whole rupees."""
    max_price: int | None = None
    """Whole rupees."""
    min_area: Area | None = None
    """In `areaUnit`."""
    max_area: Area | None = None
    """In `areaUnit`."""
    area_unit: AreaUnit = AreaUnit.SQFT
    bedrooms: list[str] = Field([], description=f"Such as `2` or `2,4+`, of which `4+` is four or more. {_SEVERAL}")
    min_bedrooms: int | None = None
    bathrooms: list[str] = Field([], description=f"As bedrooms. {_SEVERAL}")
    furnished_status: list[str] = Field([], description=f"{', '.join(FurnishedStatus)}. {_SEVERAL}")
    amenities: list[str] = Field(
        [], description="Separated by commas, or the parameter is repeated: a listing has all of them, in any case."
    )
    facing: list[str] = Field([], description=f"{', '.join(Facing)}. {_SEVERAL}")
    min_floor: int | None = None
    max_floor: int | None = None
    max_age: int | None = None
    """Of the building, in years."""
    rera: bool | None = None
    """Whether the listing has a RERA registration."""
    posted_by: list[str] = Field(
        [], description=f"The role of the owner when they listed it: {', '.join(UserRole)}. {_SEVERAL}"
    )
    listed_since: Since = None
    """First public at that time or later."""
    near: str | None = None
    """`latitude,longitude`, such as `17.4401,78.3489`."""
    radius_km: float | None = None
    """Around `near`; 5 if it is not given, 100 at most."""
    bbox: str | None = None
    """`west,south,east,north` in degrees."""
    interpret: bool = True
    """Whether `q` is read for filters: `2 bhk gachibowli under 1 cr`. A parameter wins over what is read."""

    @property
    def query(self) -> SearchQuery:
        """The search. Raises RequestValidationError."""
        return _query(self.model_dump(by_alias=True, exclude_unset=True), "query")


class SearchParameters(FilterParameters):
    """The parameters of a search by URL."""

    sort: Sort = Sort.RELEVANCE
    """A minus is descending. Listings without the value come last. `distance` is from `near`."""
    limit: Annotated[int, Field(ge=1, le=100)] = 20
    cursor: SearchCursor = None


class ClusterParameters(FilterParameters):
    """The parameters of clusters by URL."""

    bbox: str
    """`west,south,east,north` in degrees: what the map shows."""
    zoom: Annotated[int, Field(ge=0, le=MAX_ZOOM)]
    """Of the map: 0 shows the world in one tile, and each level twice as much detail."""


class SearchBody(SearchQuery):
    """A search as a JSON body: what the URL takes, and a polygon.

    A list, `near` and `bbox` may be written as in a URL.
    """

    min_area: Area | None = None  # type: ignore[assignment]  # in `area_unit`, converted by `query`
    max_area: Area | None = None  # type: ignore[assignment]
    area_unit: AreaUnit = AreaUnit.SQFT
    listed_since: Since = None
    interpret: bool = True
    """Whether `q` is read for filters: `2 bhk gachibowli under 1 cr`. A field of the body wins over what is read."""
    cursor: SearchCursor = None

    @model_validator(mode="before")
    @classmethod
    def _read_texts(cls, values: Any) -> Any:
        return _without_texts(values, "body") if isinstance(values, dict) else values

    @property
    def query(self) -> SearchQuery:
        """The search. Raises RequestValidationError."""
        return _query(self.model_dump(by_alias=True, exclude_unset=True), "body")


def _query(sent: Mapping[str, Any], place: str) -> SearchQuery:
    """The search with these values by JSON name. Raises RequestValidationError with the place, `query` or `body`."""
    values = {name: value for name, value in _without_texts(sent, place).items() if name not in _NOT_ASKED}
    unit = SQUARE_FEET[sent.get("areaUnit", AreaUnit.SQFT)]
    # Outwards: a listing of 100 m2 has 1,076 square feet, which are a little less.
    for name, whole in (("minArea", math.floor), ("maxArea", math.ceil)):
        if values.get(name) is not None:
            values[name] = max(1, whole(round(values[name] * unit, 6)))
    try:
        return SearchQuery.model_validate({name: value for name, value in values.items() if value is not None})
    except ValidationError as error:
        # A rule between parameters names the one to change.
        faults = error.errors(include_url=False)
        named = [fault["loc"] or tuple(filter(None, [fault.get("ctx", {}).get("field")])) for fault in faults]
        raise RequestValidationError(
            [{**fault, "loc": (place, *loc)} for fault, loc in zip(faults, named, strict=True)]
        ) from error


def _without_texts(values: Mapping[str, Any], place: str) -> dict[str, Any]:
    """The values with texts read: lists separated by commas, points and boxes. Raises RequestValidationError."""
    return {name: _read(name, value, place) for name, value in values.items()}


def _read(name: str, value: Any, place: str) -> Any:
    if name in _ROOM_LISTS:
        value = _as_text(value)
    if name in _LISTS and isinstance(value, str | list | tuple):
        texts = [value] if isinstance(value, str) else value
        parts = [part for text in texts for part in (text.split(",") if isinstance(text, str) else [text])]
        if name in _ROOM_LISTS:
            # A `+` that a client has not encoded arrives as a space.
            return [part.lstrip().replace(" ", "+") if isinstance(part, str) else _as_text(part) for part in parts]
        return [part.strip() if isinstance(part, str) else part for part in parts]
    if name in _SHAPES and isinstance(value, str):
        names = _SHAPES[name]
        try:
            numbers = [float(part) for part in value.split(",")]
            return dict(zip(names, numbers, strict=True))
        except ValueError as error:
            advice = f"Give {','.join(names)} as numbers."
            raise RequestValidationError(
                [{"type": "numbers", "loc": (place, name), "msg": advice, "input": ""}]
            ) from error
    return value


def _as_text(value: Any) -> Any:
    return str(value) if type(value) is int else value
