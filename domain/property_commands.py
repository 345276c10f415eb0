"""The commands on a listing, the events that they cause, and the rules between them."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field, ValidationError

from domain import fields as f
from domain.command import Actor, Change, Command
from domain.errors import (
    InvalidChange,
    ListingClosed,
    NotAdmin,
    NotOwner,
    PropertyNotFound,
    StatusRefused,
    check_version,
)
from domain.model import Fact
from domain.property import ListingType, Property, PropertyDetails, PropertyPatch, SealableDetails
from domain.property_status import CLOSED_STATUSES, PUBLIC_STATUSES, TRANSITIONS, Party, PropertyStatus


class CreateProperty(Command):
    """List a property in the name of the user who sends the command."""

    type: Literal["create-property"] = "create-property"
    property_id: UUID
    details: PropertyDetails
    status: Literal[PropertyStatus.ACTIVE, PropertyStatus.DRAFT] = PropertyStatus.ACTIVE

    @property
    def aggregate_id(self) -> UUID:
        return self.property_id


class _PropertyChange(Change):
    property_id: UUID

    @property
    def aggregate_id(self) -> UUID:
        return self.property_id


class UpdateProperty(_PropertyChange):
    """Say everything of the property anew."""

    type: Literal["update-property"] = "update-property"
    details: PropertyDetails


class PatchProperty(_PropertyChange):
    """Say some things of the property anew."""

    type: Literal["patch-property"] = "patch-property"
    changes: PropertyPatch


class ChangePropertyStatus(_PropertyChange):
    """Move the listing to another status, by the table of transitions."""

    type: Literal["change-property-status"] = "change-property-status"
    status: PropertyStatus
    reason: f.Note | None = None


class FeatureProperty(_PropertyChange):
    """Have the listing stand out, or no longer."""

    type: Literal["feature-property"] = "feature-property"
    value: bool


class VerifyProperty(_PropertyChange):
    """Vouch for the listing, or no longer."""

    type: Literal["verify-property"] = "verify-property"
    value: bool


class DeleteProperty(_PropertyChange):
    """Delete the listing for good."""

    type: Literal["delete-property"] = "delete-property"


PropertyCommand = Annotated[
    CreateProperty
    | UpdateProperty
    | PatchProperty
    | ChangePropertyStatus
    | FeatureProperty
    | VerifyProperty
    | DeleteProperty,
    Field(discriminator="type"),
]


class _WholeProperty(SealableDetails, Fact):
    """The whole public state of a property after a change."""

    property_id: UUID
    owner_id: UUID
    status: PropertyStatus
    is_featured: bool = False
    is_verified: bool = False
    previous_price: f.Rupees | None = None


class PropertyCreated(_WholeProperty):
    """PROPERTY_CREATED: the whole public state of a property that was just listed."""


class PropertyUpdated(_WholeProperty):
    """PROPERTY_UPDATED: what is said of a property has changed; its price has an event of its own."""

    changed: tuple[str, ...]
    """Names of the fields that changed."""


class PropertyPriceChanged(_WholeProperty):
    """PROPERTY_PRICE_CHANGED: `previousPrice` is the price before this change."""


class PropertyStatusChanged(_WholeProperty):
    """PROPERTY_STATUS_CHANGED."""

    from_status: PropertyStatus
    to_status: PropertyStatus
    reason: f.Note | None = None


class PropertyDeleted(Fact):
    """PROPERTY_DELETED: a tombstone; nothing follows it."""

    property_id: UUID
    owner_id: UUID
    title: f.Title
    location: f.Place


PropertyFact = PropertyCreated | PropertyUpdated | PropertyPriceChanged | PropertyStatusChanged | PropertyDeleted

_IN_EVENTS = [name for name in _WholeProperty.model_fields if name != "property_id"]


def decide(state: Property | None, command: PropertyCommand, by: Actor) -> list[PropertyFact]:
    """What `command` changes; empty when nothing does. Raises Refusal."""
    if isinstance(command, CreateProperty):
        return [_created(command)] if state is None else []
    listing = _to_be_changed(state, command, by)
    match command:
        case UpdateProperty():
            return _updated(listing, command.details)
        case PatchProperty():
            return _updated(listing, patched(listing.details, command.changes))
        case ChangePropertyStatus():
            return _moved(listing, command, by)
        case FeatureProperty():
            return _marked(listing, by, is_featured=command.value)
        case VerifyProperty():
            return _marked(listing, by, is_verified=command.value)
        case DeleteProperty():
            gone = {"title": listing.title, "location": listing.location}
            return [PropertyDeleted(property_id=listing.id, owner_id=listing.owner_id, **gone)]


def evolve(state: Property | None, fact: PropertyFact, version: int, at: datetime) -> Property | None:
    """The state after an event, whose personal fields must have been unsealed; None after a tombstone."""
    if isinstance(fact, PropertyDeleted):
        return None
    listed_at = state.listed_at if state else None
    return Property.model_construct(
        id=fact.property_id,
        version=version,
        images=state.images if state else (),
        created_at=state.created_at if state else at,
        updated_at=at,
        listed_at=at if listed_at is None and fact.status in PUBLIC_STATUSES else listed_at,
        **{name: getattr(fact, name) for name in _IN_EVENTS},
    )


def may_see(listing: Property, by: Actor) -> bool:
    """Whether `by` may know of the listing; to everybody else it does not exist."""
    return listing.is_public or _may_change(listing, by)


def patched(details: PropertyDetails, changes: PropertyPatch) -> PropertyDetails:
    """The details with changes merged in. Raises InvalidChange when the whole contradicts itself."""
    merged = details.model_dump() | changes.model_dump()
    removed = {name for name in changes.model_fields_set if getattr(changes, name) is None}
    try:
        # What is removed has its default again.
        return PropertyDetails.model_validate({name: value for name, value in merged.items() if name not in removed})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise InvalidChange(first["msg"], ".".join(map(str, first["loc"])) or "body") from error


def _created(command: CreateProperty) -> PropertyCreated:
    return PropertyCreated(
        property_id=command.property_id, owner_id=command.user_id, status=command.status, **dict(command.details)
    )


def _to_be_changed(state: Property | None, command: Change, by: Actor) -> Property:
    if state is None or not may_see(state, by):
        raise PropertyNotFound()
    if not _may_change(state, by):
        raise NotOwner()
    check_version(command.expected_versions, state.version)
    return state


def _may_change(state: Property, by: Actor) -> bool:
    return by.is_admin or by.user_id == state.owner_id


def _after(listing: Property, **changes: Any) -> dict[str, Any]:
    """The fields of an event: the state with some of it changed."""
    return {"property_id": listing.id, **{name: getattr(listing, name) for name in _IN_EVENTS}, **changes}


def _updated(listing: Property, details: PropertyDetails) -> list[PropertyFact]:
    changed = {name: value for name, value in details if value != getattr(listing, name)}
    if not changed:
        return []
    if listing.status in CLOSED_STATUSES:
        raise ListingClosed()
    price = changed.pop("price", listing.price)
    facts: list[PropertyFact] = []
    if changed:
        names = tuple(sorted(PropertyDetails.model_fields[name].alias or name for name in changed))
        facts.append(PropertyUpdated(changed=names, **_after(listing, **changed)))
    if price != listing.price:
        facts.append(PropertyPriceChanged(**_after(listing, **changed, price=price, previous_price=listing.price)))
    return facts


def _moved(listing: Property, command: ChangePropertyStatus, by: Actor) -> list[PropertyFact]:
    if command.status == listing.status:
        return []
    party = Party.ADMIN if by.is_admin else Party.OWNER
    may_follow = _may_follow(listing)
    allowed = may_follow.get(command.status, frozenset())
    if party not in allowed:
        if Party.ADMIN in allowed:
            raise NotAdmin()
        raise StatusRefused.after(listing.status, [status for status, who in may_follow.items() if party in who])
    return [
        PropertyStatusChanged(
            from_status=listing.status,
            to_status=command.status,
            reason=command.reason,
            **_after(listing, status=command.status),
        )
    ]


def _may_follow(listing: Property) -> dict[PropertyStatus, frozenset[Party]]:
    """The transitions of a listing: what is for sale is not rented, and the other way round."""
    other_deal = PropertyStatus.RENTED if listing.listing_type is ListingType.SALE else PropertyStatus.SOLD
    return {status: who for status, who in TRANSITIONS[listing.status].items() if status is not other_deal}


def _marked(listing: Property, by: Actor, **mark: bool) -> list[PropertyFact]:
    if not by.is_admin:
        raise NotAdmin()
    changed = {name: value for name, value in mark.items() if value != getattr(listing, name)}
    if not changed:
        return []
    names = tuple(_WholeProperty.model_fields[name].alias or name for name in changed)
    return [PropertyUpdated(changed=names, **_after(listing, **changed))]
