"""The commands on the images of a listing, and what they cause."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field

from domain import fields as f
from domain import ids
from domain.command import Change
from domain.errors import ImageNotFound, InvalidChange, TooManyImages
from domain.images import MOST_IMAGES, Image, ImageRefusal, ImageStatus, ListedImage, Picture, listed
from domain.model import Fact, Model
from domain.property import Property
from domain.property_events import (
    ImageFact,
    PropertyImageAdded,
    PropertyImageRefused,
    PropertyImageRemoved,
    PropertyImagesArranged,
    PropertyImagesUploaded,
    UploadedImage,
    images_after,
    with_changes,
)


class NewImage(Model):
    """A file that is to become an image."""

    id: UUID
    upload_id: UUID
    file_name: str
    size: int
    """Bytes."""

    @property
    def record_id(self) -> UUID:
        """The id of the command that records what was made of it."""
        return ids.record_id(self.id)


class _ImageCommand(Change):
    property_id: UUID

    @property
    def aggregate_id(self) -> UUID:
        return self.property_id


class AddImages(_ImageCommand):
    """Make pictures of files, and add them to a listing."""

    type: Literal["add-images"] = "add-images"
    images: Annotated[tuple[NewImage, ...], Field(min_length=1, max_length=MOST_IMAGES)]


class OrderImages(_ImageCommand):
    """Put the images of a listing into an order, which names each of them."""

    type: Literal["order-images"] = "order-images"
    image_ids: tuple[UUID, ...]


class ChangeImage(_ImageCommand):
    """Change the caption of an image, or whether it is the primary one."""

    type: Literal["change-image"] = "change-image"
    image_id: UUID
    caption: f.Caption | None = None
    is_primary: bool


class RemoveImage(_ImageCommand):
    """Remove an image from a listing."""

    type: Literal["remove-image"] = "remove-image"
    image_id: UUID


class ImageMade(Fact):
    """What was made of the file of an image: a picture, or nothing, and why."""

    picture: Picture | None = None
    refused: ImageRefusal | None = None


class RecordImage(_ImageCommand):
    """Record what was made of the file of an image. Sent by the workflow of AddImages."""

    type: Literal["record-image"] = "record-image"
    image_id: UUID
    made: ImageMade


ImageChange = AddImages | OrderImages | ChangeImage | RemoveImage
"""What an owner does."""


def decide_images(listing: Property, command: ImageChange) -> list[ImageFact]:
    """The events that a change of images causes, by who may change the listing. Raises Refusal."""
    match command:
        case AddImages():
            return [_uploaded(listing, command)]
        case OrderImages():
            return _ordered(listing, command)
        case ChangeImage():
            return _changed(listing, command)
        case RemoveImage():
            _image(listing, command.image_id)
            removed = PropertyImageRemoved(image_id=command.image_id, **with_changes(listing))
            return [_with_images(removed, listing)]


def decide_made(listing: Property | None, command: RecordImage) -> list[ImageFact]:
    """The event about what was made of a file; none for an image that is removed, or was recorded before."""
    image = next((each for each in listing.images if each.id == command.image_id), None) if listing else None
    if listing is None or image is None or image.status is not ImageStatus.PROCESSING:
        return []
    if command.made.picture is None:
        refused = command.made.refused or ImageRefusal(code="failed", detail="Send the file again.")
        return [PropertyImageRefused(image_id=image.id, refused=refused, **with_changes(listing))]
    picture = command.made.picture
    shown = ListedImage(
        id=image.id,
        key=picture.key,
        width=picture.width,
        height=picture.height,
        thumbhash=picture.thumbhash,
        variants=picture.variants,
        caption=image.caption,
    )
    added = PropertyImageAdded(image=shown, perceptual_hash=picture.perceptual_hash, **with_changes(listing))
    added = _with_images(added, listing)
    return [added.model_copy(update={"image": next(each for each in added.images if each.id == image.id)})]


def _uploaded(listing: Property, command: AddImages) -> ImageFact:
    kept = sum(each.status is not ImageStatus.REFUSED for each in listing.images)
    if kept + len(command.images) > MOST_IMAGES:
        raise TooManyImages.of(kept, MOST_IMAGES)
    uploaded = tuple(UploadedImage(id=each.id, upload_id=each.upload_id, size=each.size) for each in command.images)
    return PropertyImagesUploaded(added_by=command.command_id, uploaded=uploaded, **with_changes(listing))


def _ordered(listing: Property, command: OrderImages) -> list[ImageFact]:
    present = [each.id for each in listing.images]
    if sorted(command.image_ids) != sorted(present):
        raise InvalidChange("Name each image of the listing once.", "imageIds")
    return _arranged(listing, [_image(listing, id) for id in command.image_ids])


def _changed(listing: Property, command: ChangeImage) -> list[ImageFact]:
    _image(listing, command.image_id)
    changed = [
        each.model_copy(
            update={
                "caption": command.caption if each.id == command.image_id else each.caption,
                # One is chosen at most.
                "is_primary": command.is_primary
                if each.id == command.image_id
                else each.is_primary and not command.is_primary,
            }
        )
        for each in listing.images
    ]
    return _arranged(listing, changed)


def _arranged(listing: Property, images: Sequence[Image]) -> list[ImageFact]:
    if tuple(images) == listing.images:
        return []
    arranged = PropertyImagesArranged(
        order=tuple(each.id for each in images),
        captions={each.id: each.caption for each in images if each.caption is not None},
        primary_id=next((each.id for each in images if each.is_primary), None),
        **with_changes(listing),
    )
    return [_with_images(arranged, listing)]


def _with_images(fact: Any, listing: Property) -> Any:
    """An event with the pictures as they are after it."""
    return fact.model_copy(update={"images": listed(images_after(listing.images, fact, listing.updated_at))})


def _image(listing: Property, image_id: UUID) -> Image:
    for each in listing.images:
        if each.id == image_id:
            return each
    raise ImageNotFound()
