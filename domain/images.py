"""The images of a listing: as they are stored, and as everybody may see them."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from domain.model import Fact

MOST_IMAGES = 10
"""Of one listing; refused ones are not counted."""


class ImageStatus(StrEnum):
    PROCESSING = "PROCESSING"
    READY = "READY"
    REFUSED = "REFUSED"


class ImageRefusal(Fact):
    """Why a file became no picture."""

    code: str
    """Such as `truncated`."""
    detail: str
    """A sentence for the owner."""


class ImageFormat(StrEnum):
    AVIF = "avif"
    WEBP = "webp"
    JPEG = "jpeg"

    @property
    def suffix(self) -> str:
        return "jpg" if self is ImageFormat.JPEG else self.value


class ImageVariant(Fact):
    """One of the files that were made of a picture."""

    width: int
    height: int
    format: ImageFormat
    bytes: int


class Picture(Fact):
    """What was made of the bytes of an image."""

    key: str
    """SHA-256 of the bytes, in hexadecimal digits: the keys of the variants begin with it (`key_of_variant`)."""
    width: int
    """Of the upright picture, in pixels."""
    height: int
    thumbhash: str
    """A blurred preview (https://evanw.github.io/thumbhash/), in base64."""
    perceptual_hash: int
    """Two pictures of the same thing differ in few of its 64 bits."""
    variants: tuple[ImageVariant, ...]


class ListedImage(Fact):
    """A picture of a listing that everybody may see who may see the listing."""

    id: UUID
    key: str
    """A variant is served at `/api/files/{key}-{width}.avif`, `.webp` or `.jpg`."""
    width: int
    height: int
    thumbhash: str
    variants: tuple[ImageVariant, ...]
    """The files for a `srcset`: AVIF and WebP of each width, and one JPEG."""
    caption: str | None = None
    is_primary: bool = False
    """Whether it stands for the listing where one picture is shown: one of them does."""


class Image(Fact):
    """An image of a listing in its state."""

    id: UUID
    status: ImageStatus
    command_id: UUID
    """The command that added it."""
    upload_id: UUID
    size: int
    """Bytes of the file that was sent."""
    added_at: datetime
    caption: str | None = None
    is_primary: bool = False
    """Whether the owner has chosen it; otherwise the first one that is ready stands for the listing."""
    key: str | None = None
    width: int | None = None
    height: int | None = None
    thumbhash: str | None = None
    variants: tuple[ImageVariant, ...] = ()
    perceptual_hash: int | None = None
    refused: ImageRefusal | None = None


def key_of_variant(key: str, variant: ImageVariant) -> str:
    """The key at which a file of a picture is served."""
    return f"{key}-{variant.width}.{variant.format.suffix}"


def listed(images: Sequence[Image]) -> tuple[ListedImage, ...]:
    """The images that are ready, in order, of which one is the primary one."""
    ready = [image for image in images if image.status is ImageStatus.READY]
    primary = next((image.id for image in ready if image.is_primary), ready[0].id if ready else None)
    return tuple(
        ListedImage.model_construct(
            **{name: getattr(image, name) for name in ListedImage.model_fields if name != "is_primary"},
            is_primary=image.id == primary,
        )
        for image in ready
    )
