"""The events of a listing, and `evolve`."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from domain import fields as f
from domain.images import Image, ImageRefusal, ImageStatus, ListedImage, listed
from domain.model import Fact
from domain.property import Property, SealableDetails
from domain.property_status import PUBLIC_STATUSES, PropertyStatus
from domain.roles import UserRole


class WholeProperty(SealableDetails, Fact):
    """The whole public state of a property after a change."""

    property_id: UUID
    owner_id: UUID
    status: PropertyStatus
    is_featured: bool = False
    is_verified: bool = False
    previous_price: f.Rupees | None = None
    posted_by: UserRole | None = None
    created_at: datetime | None = None
    listed_at: datetime | None = None
    """These three are null in events of older releases."""
    images: tuple[ListedImage, ...] = ()
    """In order."""


STATE = frozenset(WholeProperty.model_fields)
"""The fields of an event that are the listing's state; the others, such as the reason of a change, are its owner's."""


class PropertyCreated(WholeProperty):
    """PROPERTY_CREATED: the whole public state of a property that was just listed."""


class PropertyUpdated(WholeProperty):
    """PROPERTY_UPDATED: fields other than price and status have changed."""

    changed: tuple[str, ...]
    """Names of the fields that changed."""


class PropertyPriceChanged(WholeProperty):
    """PROPERTY_PRICE_CHANGED: `previousPrice` is the price before this change."""


class PropertyStatusChanged(WholeProperty):
    """PROPERTY_STATUS_CHANGED: the status has changed."""

    from_status: PropertyStatus
    to_status: PropertyStatus
    reason: f.Note | None = None


class UploadedImage(Fact):
    """A file that is to become an image."""

    id: UUID
    upload_id: UUID
    size: int
    """Bytes."""


class PropertyImagesUploaded(WholeProperty):
    """PROPERTY_IMAGES_UPLOADED: files were sent, of which pictures are being made. Those refused before are removed."""

    added_by: UUID
    """The command."""
    uploaded: tuple[UploadedImage, ...]


class PropertyImageAdded(WholeProperty):
    """PROPERTY_IMAGE_ADDED: a picture is ready; `images` has it too."""

    image: ListedImage
    perceptual_hash: int


class PropertyImageRefused(WholeProperty):
    """PROPERTY_IMAGE_REFUSED: a file became no picture."""

    image_id: UUID
    refused: ImageRefusal


class PropertyImagesArranged(WholeProperty):
    """PROPERTY_IMAGES_ARRANGED: the order of the images, their captions, or the primary one have changed."""

    order: tuple[UUID, ...]
    """All images, also those that are not ready."""
    captions: dict[UUID, str]
    primary_id: UUID | None
    """The one that the owner has chosen; otherwise it is the first one that is ready."""


class PropertyImageRemoved(WholeProperty):
    """PROPERTY_IMAGE_REMOVED: an image was removed, or a refused file."""

    image_id: UUID


class PropertyDeleted(Fact):
    """PROPERTY_DELETED: a tombstone, the last event of a listing."""

    property_id: UUID
    owner_id: UUID
    title: f.Title
    location: f.Place


ImageFact = (
    PropertyImagesUploaded | PropertyImageAdded | PropertyImageRefused | PropertyImagesArranged | PropertyImageRemoved
)
PropertyFact = (
    PropertyCreated | PropertyUpdated | PropertyPriceChanged | PropertyStatusChanged | PropertyDeleted | ImageFact
)

_TIMES = {"created_at", "listed_at"}
_STATE_FIELDS = [name for name in WholeProperty.model_fields if name not in {"property_id", "images", *_TIMES}]


def evolve(state: Property | None, fact: PropertyFact, version: int, at: datetime) -> Property | None:
    """The state after an event, whose personal fields must be decrypted; None after a tombstone."""
    if isinstance(fact, PropertyDeleted):
        return None
    listed_at = state.listed_at if state else None
    return Property.model_construct(
        id=fact.property_id,
        version=version,
        images=images_after(state.images if state else (), fact, at),
        created_at=state.created_at if state else at,
        updated_at=at,
        listed_at=at if listed_at is None and fact.status in PUBLIC_STATUSES else listed_at,
        **{name: getattr(fact, name) for name in _STATE_FIELDS},
    )


def images_after(images: Sequence[Image], fact: PropertyFact, at: datetime) -> tuple[Image, ...]:
    """The images of a listing after an event."""
    match fact:
        case PropertyImagesUploaded():
            kept = [each for each in images if each.status is not ImageStatus.REFUSED]
            return (*kept, *(_processing(each, fact.added_by, at) for each in fact.uploaded))
        case PropertyImageAdded():
            shown = {name: getattr(fact.image, name) for name in _SHOWN}
            ready = {"status": ImageStatus.READY, "perceptual_hash": fact.perceptual_hash, **shown}
            return tuple(each.model_copy(update=ready) if each.id == fact.image.id else each for each in images)
        case PropertyImageRefused():
            refused = {"status": ImageStatus.REFUSED, "refused": fact.refused}
            return tuple(each.model_copy(update=refused) if each.id == fact.image_id else each for each in images)
        case PropertyImagesArranged():
            by_id = {each.id: each for each in images}
            return tuple(
                by_id[id].model_copy(update={"caption": fact.captions.get(id), "is_primary": id == fact.primary_id})
                for id in fact.order
            )
        case PropertyImageRemoved():
            return tuple(each for each in images if each.id != fact.image_id)
    return tuple(images)


_SHOWN = ListedImage.model_fields.keys() - {"id", "caption", "is_primary"}


def _processing(uploaded: UploadedImage, command_id: UUID, at: datetime) -> Image:
    return Image(
        id=uploaded.id,
        status=ImageStatus.PROCESSING,
        command_id=command_id,
        upload_id=uploaded.upload_id,
        size=uploaded.size,
        added_at=at,
    )


def with_changes(listing: Property, **changes: Any) -> dict[str, Any]:
    """The fields of an event: the state with `changes` applied."""
    kept = {name: getattr(listing, name) for name in (*_STATE_FIELDS, *_TIMES)}
    return {"property_id": listing.id, "images": listed(listing.images), **kept, **changes}
