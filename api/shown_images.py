"""The images of a listing as the API returns them: with URLs for every size that a page may need."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import orjson

from domain.images import Image, ImageRefusal, ImageStatus, ListedImage, listed
from domain.model import Model


class ImageSource(Model):
    """A format of a picture in several widths: an element `source` of HTML's `picture`."""

    type: Literal["image/avif", "image/webp"]
    srcset: str
    """URLs with their widths: `https://… 320w, https://… 640w`."""


class ShownImage(Model):
    """An image of a listing. One that is not READY is shown to the owner and administrators only."""

    id: UUID
    status: ImageStatus
    caption: str | None
    is_primary: bool
    """Whether it stands for the listing where one picture is shown."""
    width: int | None
    """Of the whole picture, in pixels; null unless it is READY."""
    height: int | None
    thumbhash: str | None
    """A blurred preview to show meanwhile (https://evanw.github.io/thumbhash/), in base64."""
    url: str | None
    """A JPEG, for what knows neither AVIF nor WebP; null unless the image is READY."""
    sources: tuple[ImageSource, ...]
    """AVIF before WebP, which is larger."""
    file_name: str | None = None
    """As it was uploaded; like the following for the owner and administrators only, and null for others."""
    size: int | None = None
    """Bytes of the uploaded file."""
    added_at: datetime | None = None
    refused: ImageRefusal | None = None
    """Why the file became no picture; null unless the status is REFUSED."""


def shown_to_all(image: ListedImage, files_url: str) -> ShownImage:
    """A picture; its URLs begin with `files_url`."""
    return ShownImage(
        id=image.id,
        status=ImageStatus.READY,
        caption=image.caption,
        is_primary=image.is_primary,
        width=image.width,
        height=image.height,
        thumbhash=image.thumbhash,
        url=f"{files_url}/{image.key}-{image.fallback_width}.jpg",
        sources=(
            ImageSource(type="image/avif", srcset=_srcset(image, files_url, "avif")),
            ImageSource(type="image/webp", srcset=_srcset(image, files_url, "webp")),
        ),
    )


def shown_to_owner(images: Sequence[Image], files_url: str) -> list[ShownImage]:
    """All images of a listing, also those that are being processed, or were refused."""
    ready = {each.id: shown_to_all(each, files_url) for each in listed(images)}
    return [_with_details(image, ready.get(image.id) or _unready(image)) for image in images]


def shown_card(card: Mapping[str, Any], files_url: str) -> dict[str, Any]:
    """The JSON of a ListingCard, or of the state in an event, with its images as the API returns them."""
    images = [shown_to_all(ListedImage.model_validate(each), files_url) for each in card.get("images", ())]
    return {**card, "images": [each.model_dump(mode="json", by_alias=True) for each in images]}


_WITHOUT_IMAGES = b'"images":[]'


def shown_card_json(card: bytes, files_url: str) -> bytes:
    """As `shown_card`. One without images is not parsed: a text in it cannot have unescaped quotes."""
    return card if _WITHOUT_IMAGES in card else orjson.dumps(shown_card(orjson.loads(card), files_url))


def _srcset(image: ListedImage, files_url: str, extension: str) -> str:
    return ", ".join(f"{files_url}/{image.key}-{width}.{extension} {width}w" for width in image.widths)


def _unready(image: Image) -> ShownImage:
    return ShownImage(
        id=image.id,
        status=image.status,
        caption=image.caption,
        is_primary=False,
        width=None,
        height=None,
        thumbhash=None,
        url=None,
        sources=(),
    )


def _with_details(image: Image, shown: ShownImage) -> ShownImage:
    own = {"file_name": image.file_name, "size": image.size, "added_at": image.added_at, "refused": image.refused}
    return shown.model_copy(update=own)
