"""A property listing: what may be said of one, and what follows from a command."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Self
from uuid import UUID

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from domain import fields as f
from domain.command import Command, Saved
from domain.model import Fact, Model


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


class PropertyStatus(StrEnum):
    DRAFT = "DRAFT"
    PENDING_REVIEW = "PENDING_REVIEW"
    ACTIVE = "ACTIVE"
    PAUSED = "PAUSED"
    UNDER_OFFER = "UNDER_OFFER"
    SOLD = "SOLD"
    RENTED = "RENTED"
    EXPIRED = "EXPIRED"
    REJECTED = "REJECTED"
    WITHDRAWN = "WITHDRAWN"


PUBLIC_STATUSES = frozenset(
    {PropertyStatus.ACTIVE, PropertyStatus.UNDER_OFFER, PropertyStatus.SOLD, PropertyStatus.RENTED}
)
"""What anybody may look at; in every other status a property is its owner's business."""


def _distinct(values: tuple[str, ...]) -> tuple[str, ...]:
    if len({value.casefold() for value in values}) != len(values):
        raise PydanticCustomError("repeated", "Each entry may be given once")
    return values


class PropertyFacts(Model):
    """What is said of the property itself. Money is whole rupees, area is square feet."""

    title: f.Title
    description: f.Description
    price: f.Rupees
    """Whole rupees: the price of a sale, or the rent of a month."""
    location: f.Place
    """The locality, as people say it: `Gachibowli`."""
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
    amenities: Annotated[tuple[f.Label, ...], Field(max_length=100), AfterValidator(_distinct)] = ()
    nearby_facilities: f.Note | None = None
    latitude: f.Latitude | None = None
    longitude: f.Longitude | None = None
    rera_id: f.ReraId | None = None
    """Telangana RERA registration: `P0` and ten digits."""

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        if (self.latitude is None) != (self.longitude is None):
            raise PydanticCustomError("half_a_point", "Give latitude and longitude together, or neither")
        if self.floor_number is not None and self.total_floors is not None and self.floor_number > self.total_floors:
            raise PydanticCustomError("floor_above_roof", "floorNumber must not be above totalFloors")
        return self


class PropertyDetails(PropertyFacts):
    """What a client sends to list a property."""

    contact_name: Annotated[f.PersonName | None, f.PERSONAL] = None
    contact_phone: Annotated[f.Phone | None, f.PERSONAL] = None
    contact_email: Annotated[f.Email | None, f.PERSONAL] = None


class Property(PropertyDetails):
    """The state of a property: what the API answers."""

    id: UUID
    version: int
    owner_id: UUID
    status: PropertyStatus
    images: tuple[str, ...] = ()
    is_featured: bool = False
    is_verified: bool = False
    views_count: int = 0
    favorites_count: int = 0
    previous_price: f.Rupees | None = None
    created_at: datetime
    updated_at: datetime


class CreateProperty(Command):
    """List a property in the name of the user who sends the command."""

    property_id: UUID
    details: PropertyDetails


class PropertyCreated(PropertyFacts, Fact):
    """PROPERTY_CREATED: the whole public state of a property that was just listed."""

    property_id: UUID
    owner_id: UUID
    status: PropertyStatus
    contact_name: Annotated[f.PersonName | f.Sealed | None, f.PERSONAL] = None
    contact_phone: Annotated[f.Phone | f.Sealed | None, f.PERSONAL] = None
    contact_email: Annotated[f.Email | f.Sealed | None, f.PERSONAL] = None


class PropertySaved(Saved):
    """The answer to every command on a property."""

    property: Property
    confirmation_promised: bool = False
    """Whether the outbox has the owner's confirmation; a command from before there was one sends it itself."""


def decide(state: Property | None, command: CreateProperty) -> list[PropertyCreated]:
    """What happens when `command` meets `state`; a property is listed as soon as it is created."""
    if state is not None:
        return []
    return [
        PropertyCreated(
            property_id=command.property_id,
            owner_id=command.user_id,
            status=PropertyStatus.ACTIVE,
            **dict(command.details),
        )
    ]


def evolve(state: Property | None, event: PropertyCreated, version: int, at: datetime) -> Property:
    """The state after `event`, whose personal fields must have been unsealed."""
    facts = {name: value for name, value in event if name not in {"property_id", "owner_id", "status"}}
    return Property(
        id=event.property_id,
        version=version,
        owner_id=event.owner_id,
        status=event.status,
        created_at=state.created_at if state else at,
        updated_at=at,
        **facts,
    )
