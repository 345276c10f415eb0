"""The commands on a listing, and `decide`."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field, ValidationError

from domain import fields as f
from domain.command import Actor, Change, Command
from domain.errors import (
    EmailNotVerified,
    InvalidChange,
    ListingClosed,
    NotAdmin,
    NotOwner,
    PropertyNotFound,
    StatusRefused,
    check_version,
)
from domain.image_commands import (
    AddImages,
    ChangeImage,
    OrderImages,
    RecordImage,
    RemoveImage,
    decide_images,
    decide_made,
)
from domain.property import ListingType, Property, PropertyDetails, PropertyPatch
from domain.property_events import (
    PropertyCreated,
    PropertyDeleted,
    PropertyFact,
    PropertyPriceChanged,
    PropertyStatusChanged,
    PropertyUpdated,
    WholeProperty,
    with_changes,
)
from domain.property_status import CLOSED_STATUSES, PUBLIC_STATUSES, TRANSITIONS, Party, PropertyStatus


class CreateProperty(Command):
    """List a property; the user who sends the command becomes its owner."""

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
    """Replace all details of a listing."""

    type: Literal["update-property"] = "update-property"
    details: PropertyDetails


class PatchProperty(_PropertyChange):
    """Change some details of a listing."""

    type: Literal["patch-property"] = "patch-property"
    changes: PropertyPatch


class ChangePropertyStatus(_PropertyChange):
    """Change the status of a listing, as `TRANSITIONS` allows."""

    type: Literal["change-property-status"] = "change-property-status"
    status: PropertyStatus
    reason: f.Note | None = None


class FeatureProperty(_PropertyChange):
    """Set or clear the flag `isFeatured` of a listing."""

    type: Literal["feature-property"] = "feature-property"
    value: bool


class VerifyProperty(_PropertyChange):
    """Set or clear the flag `isVerified` of a listing."""

    type: Literal["verify-property"] = "verify-property"
    value: bool


class DeleteProperty(_PropertyChange):
    """Delete a listing; its events stay."""

    type: Literal["delete-property"] = "delete-property"


PropertyCommand = Annotated[
    CreateProperty
    | UpdateProperty
    | PatchProperty
    | ChangePropertyStatus
    | FeatureProperty
    | VerifyProperty
    | DeleteProperty
    | AddImages
    | OrderImages
    | ChangeImage
    | RemoveImage
    | RecordImage,
    Field(discriminator="type"),
]


class Sender(Actor):
    """The user who sends a command, and what else its decision needs."""

    owner_must_verify: bool = False
    """Whether the portal requires a verified e-mail address of the listing's owner, who has none."""


def decide(state: Property | None, command: PropertyCommand, by: Sender) -> list[PropertyFact]:
    """The events that `command` causes; empty when it changes nothing. Raises Refusal."""
    facts = _decided(state, command, by)
    if by.owner_must_verify and any(_makes_active(state, fact) for fact in facts):
        is_owner = state is None or by.user_id == state.owner_id
        raise EmailNotVerified(None if is_owner else "The owner must verify the e-mail address of the account first.")
    return facts


def _decided(state: Property | None, command: PropertyCommand, by: Actor) -> list[PropertyFact]:
    if isinstance(command, CreateProperty):
        return [_created(command, by)] if state is None else []
    if isinstance(command, RecordImage):
        return [*decide_made(state, command)]  # the platform's, so nobody's rights or version are asked
    listing = _checked(state, command, by)
    match command:
        case UpdateProperty():
            return _updated(listing, command.details)
        case PatchProperty():
            return _updated(listing, patched(listing.details, command.changes))
        case ChangePropertyStatus():
            return _status_changed(listing, command, by)
        case FeatureProperty():
            return _flagged(listing, by, is_featured=command.value)
        case VerifyProperty():
            return _flagged(listing, by, is_verified=command.value)
        case DeleteProperty():
            gone = {"title": listing.title, "location": listing.location}
            return [PropertyDeleted(property_id=listing.id, owner_id=listing.owner_id, **gone)]
    if listing.status in CLOSED_STATUSES:
        raise ListingClosed()
    return [*decide_images(listing, command)]


def may_see(listing: Property, by: Actor) -> bool:
    """Whether `by` may see the listing; otherwise it is not found."""
    return listing.is_public or _may_change(listing, by)


def patched(details: PropertyDetails, changes: PropertyPatch) -> PropertyDetails:
    """The details with changes merged in. Raises InvalidChange when the merged details are not valid."""
    merged = details.model_dump() | changes.model_dump()
    removed = {name for name in changes.model_fields_set if getattr(changes, name) is None}
    try:
        # A removed field gets its default.
        return PropertyDetails.model_validate({name: value for name, value in merged.items() if name not in removed})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise InvalidChange(first["msg"], ".".join(map(str, first["loc"])) or "body") from error


def transitions_of(status: PropertyStatus, of: ListingType) -> dict[PropertyStatus, frozenset[Party]]:
    """The transitions from a status: a listing for sale cannot be RENTED, and any other cannot be SOLD."""
    other_deal = PropertyStatus.RENTED if of is ListingType.SALE else PropertyStatus.SOLD
    return {to: who for to, who in TRANSITIONS[status].items() if to is not other_deal}


def _makes_active(state: Property | None, fact: PropertyFact) -> bool:
    """Whether a listing becomes ACTIVE, the only status by which it becomes public."""
    if isinstance(fact, PropertyDeleted) or fact.status is not PropertyStatus.ACTIVE:
        return False
    return state is None or state.status is not PropertyStatus.ACTIVE


def _created(command: CreateProperty, by: Actor) -> PropertyCreated:
    return PropertyCreated(
        property_id=command.property_id,
        owner_id=command.user_id,
        status=command.status,
        posted_by=by.role,
        created_at=command.issued_at,
        listed_at=command.issued_at if command.status in PUBLIC_STATUSES else None,
        **dict(command.details),
    )


def check_adding(state: Property | None, by: Actor, expected: tuple[int, ...] | None) -> None:
    """Whether images may be added to a listing. Raises Refusal, as `decide` does."""
    listing = _permitted(state, by, expected)
    if listing.status in CLOSED_STATUSES:
        raise ListingClosed()


def _checked(state: Property | None, command: Change, by: Actor) -> Property:
    """The listing, if the command may change it. Raises PropertyNotFound, NotOwner or VersionConflict."""
    return _permitted(state, by, command.expected_versions)


def _permitted(state: Property | None, by: Actor, expected: tuple[int, ...] | None) -> Property:
    if state is None or not may_see(state, by):
        raise PropertyNotFound()
    if not _may_change(state, by):
        raise NotOwner()
    check_version(expected, state.version)
    return state


def _may_change(state: Property, by: Actor) -> bool:
    return by.is_admin or by.user_id == state.owner_id


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
        facts.append(PropertyUpdated(changed=names, **with_changes(listing, **changed)))
    if price != listing.price:
        facts.append(
            PropertyPriceChanged(**with_changes(listing, **changed, price=price, previous_price=listing.price))
        )
    return facts


def _status_changed(listing: Property, command: ChangePropertyStatus, by: Actor) -> list[PropertyFact]:
    if command.status == listing.status:
        return []
    party = Party.ADMIN if by.is_admin else Party.OWNER
    transitions = transitions_of(listing.status, listing.listing_type)
    allowed = transitions.get(command.status, frozenset())
    if party not in allowed:
        if Party.ADMIN in allowed:
            raise NotAdmin()
        raise StatusRefused.after(listing.status, [status for status, who in transitions.items() if party in who])
    return [
        PropertyStatusChanged(
            from_status=listing.status,
            to_status=command.status,
            reason=command.reason,
            **with_changes(listing, status=command.status, listed_at=_listed_at(listing, command)),
        )
    ]


def _listed_at(listing: Property, command: ChangePropertyStatus) -> datetime | None:
    """When it was public for the first time, after the command."""
    first = listing.listed_at is None and command.status in PUBLIC_STATUSES
    return command.issued_at if first else listing.listed_at


def _flagged(listing: Property, by: Actor, **flags: bool) -> list[PropertyFact]:
    if not by.is_admin:
        raise NotAdmin()
    changed = {name: value for name, value in flags.items() if value != getattr(listing, name)}
    if not changed:
        return []
    names = tuple(WholeProperty.model_fields[name].alias or name for name in changed)
    return [PropertyUpdated(changed=names, **with_changes(listing, **changed))]
