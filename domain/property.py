"""A property listing: its fields and their constraints."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Self
from uuid import UUID

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from domain import fields as f
from domain.images import Image
from domain.model import Fact, MergePatch, Model
from domain.property_status import PUBLIC_STATUSES, PropertyStatus
from domain.roles import UserRole


class PropertyType(StrEnum):
    APARTMENT = "APARTMENT"
    HOUSE = "HOUSE"
    VILLA = "VILLA"
    PLOT = "PLOT"
    COMMERCIAL = "COMMERCIAL"
    OFFICE = "OFFICE"
    SHOP = "SHOP"
    WAREHOUSE = "WAREHOUSE"
    FARMHOUSE = "FARMHOUSE"
    STUDIO = "STUDIO"


class ListingType(StrEnum):
    SALE = "SALE"
    RENT = "RENT"
    PG = "PG"


class FurnishedStatus(StrEnum):
    FURNISHED = "FURNISHED"
    SEMI_FURNISHED = "SEMI_FURNISHED"
    UNFURNISHED = "UNFURNISHED"


class Facing(StrEnum):
    NORTH = "NORTH"
    NORTH_EAST = "NORTH_EAST"
    EAST = "EAST"
    SOUTH_EAST = "SOUTH_EAST"
    SOUTH = "SOUTH"
    SOUTH_WEST = "SOUTH_WEST"
    WEST = "WEST"
    NORTH_WEST = "NORTH_WEST"


def _distinct(values: tuple[str, ...]) -> tuple[str, ...]:
    if len({value.casefold() for value in values}) != len(values):
        raise PydanticCustomError("repeated", "Give each entry once.")
    return values


Amenities = Annotated[
    tuple[f.Label, ...],
    Field(
        max_length=100,
        fail_fast=True,  # one invalid entry is enough: a body may have a hundred thousand
        description="Each entry once; two that differ in case or in the whitespace around them are the same.",
        json_schema_extra={"uniqueItems": True},
    ),
    AfterValidator(_distinct),
]


class PropertyFacts(Model):
    """The fields of a listing without contact data. Money is in whole rupees, area in square feet."""

    title: f.Title
    description: f.Description
    price: f.Rupees
    """Whole rupees: the price of a sale, or the rent of a month."""
    location: f.Place
    """The locality, such as `Gachibowli`."""
    property_type: PropertyType
    listing_type: ListingType
    address: f.Address | None = None
    city: f.Place = "Hyderabad"
    state: f.Place = "Telangana"
    pincode: f.Pincode | None = None
    bedrooms: f.Rooms | None = None
    bathrooms: f.Rooms | None = None
    area_sqft: f.SquareFeet | None = None
    parking_spaces: f.Rooms | None = None
    floor_number: f.Floor | None = None
    total_floors: f.Floor | None = None
    age_of_property: f.Years | None = None
    """Whole years."""
    facing: Facing | None = None
    furnished_status: FurnishedStatus | None = None
    amenities: Amenities = ()
    nearby_facilities: f.Note | None = None
    latitude: f.Latitude | None = None
    longitude: f.Longitude | None = None
    rera_id: f.ReraId | None = None
    """Telangana RERA registration: `P0` and ten digits."""

    @model_validator(mode="after")
    def _check_related_fields(self) -> Self:
        if (self.latitude is None) != (self.longitude is None):
            raise PydanticCustomError("half_a_point", "Give latitude and longitude together, or neither.")
        if self.floor_number is not None and self.total_floors is not None and self.floor_number > self.total_floors:
            raise PydanticCustomError("floor_above_roof", "Give a floorNumber that is not above totalFloors.")
        return self


class SealableDetails(PropertyFacts):
    """The details as stored in events: contact data may be encrypted."""

    contact_name: Annotated[f.PersonName | f.Sealed | None, f.PERSONAL] = None
    contact_phone: Annotated[f.Phone | f.Sealed | None, f.PERSONAL] = None
    contact_email: Annotated[f.Email | f.Sealed | None, f.PERSONAL] = None


class PropertyDetails(PropertyFacts):
    """All fields of a listing that a client sets."""

    contact_name: Annotated[f.PersonName | None, f.PERSONAL] = None
    contact_phone: Annotated[f.Phone | None, f.PERSONAL] = None
    contact_email: Annotated[f.Email | None, f.PERSONAL] = None


class PropertyPatch(PropertyDetails, MergePatch):
    """A merge patch of a listing. Rules between fields are checked on the merged listing."""

    title: f.Title = Field(default_factory=str)
    description: f.Description = Field(default_factory=str)
    price: f.Rupees = Field(default_factory=int)
    location: f.Place = Field(default_factory=str)
    property_type: PropertyType = Field(default_factory=lambda: PropertyType.APARTMENT)
    listing_type: ListingType = Field(default_factory=lambda: ListingType.SALE)
    city: f.Place | None = None  # type: ignore[assignment]  # null restores the default
    state: f.Place | None = None  # type: ignore[assignment]
    amenities: Amenities | None = None  # type: ignore[assignment]

    @model_validator(mode="after")
    def _check_related_fields(self) -> Self:
        return self


class Property(PropertyDetails, Fact):
    """The state of a property."""

    id: UUID
    version: int
    owner_id: UUID
    status: PropertyStatus
    images: tuple[Image, ...] = ()
    is_featured: bool = False
    is_verified: bool = False
    previous_price: f.Rupees | None = None
    created_at: datetime
    updated_at: datetime
    listed_at: datetime | None = None
    """When it was public for the first time; null before that."""
    posted_by: UserRole | None = None
    """The owner's role when they listed it; null for listings of older releases."""

    @property
    def details(self) -> PropertyDetails:
        return PropertyDetails.model_construct(**{name: getattr(self, name) for name in PropertyDetails.model_fields})

    @property
    def is_public(self) -> bool:
        return self.status in PUBLIC_STATUSES
