"""The images of a listing as the API returns them: with the URL of every file that a page may need."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from adapters.settings import Settings
from domain.images import Image, ImageFormat, ImageStatus, ListedImage, key_of_variant, listed
from domain.model import Model


@dataclass(frozen=True)
class FileUrls:
    """The URLs of a tenant's files. They are read without a token, so they name any tenant but the default one."""

    prefix: str
    suffix: str = ""

    @classmethod
    def of(cls, settings: Settings, tenant_id: str) -> "FileUrls":
        prefix = settings.cdn_base_url or f"{settings.public_api_url}/api/files"
        return cls(prefix, "" if tenant_id == settings.default_tenant else f"?tenant={tenant_id}")

    def url(self, key: str) -> str:
        return f"{self.prefix}/{key}{self.suffix}"


class ShownVariant(Model):
    """A file of a picture. Those of one format are a `srcset` of HTML: each URL with its width."""

    url: str
    width: int
    height: int
    format: ImageFormat
    bytes: int


class ShownImage(Model):
    """An image of a listing. One that is not READY is shown to the owner and administrators only."""

    id: UUID
    status: ImageStatus
    reason: str | None = None
    """Why the file became no picture, and what to do; null unless it is REFUSED."""
    reason_code: str | None = None
    """The reason for programs, such as `truncated`."""
    caption: str | None
    is_primary: bool
    """Whether it stands for the listing where one picture is shown."""
    width: int | None = None
    """Of the whole picture, in pixels; null unless it is READY."""
    height: int | None = None
    thumbhash: str | None = None
    """A blurred preview to show meanwhile (https://evanw.github.io/thumbhash/), in base64."""
    variants: tuple[ShownVariant, ...] = ()
    """AVIF and WebP in up to four widths, and one JPEG; empty unless it is READY."""
    file_name: str | None = None
    """As it was uploaded; this and the next two are null for others than the owner and administrators."""
    size: int | None = None
    """Bytes of the uploaded file."""
    added_at: datetime | None = None


def shown_to_all(image: ListedImage, urls: FileUrls) -> ShownImage:
    """A picture."""
    return ShownImage(
        id=image.id,
        status=ImageStatus.READY,
        caption=image.caption,
        is_primary=image.is_primary,
        width=image.width,
        height=image.height,
        thumbhash=image.thumbhash,
        variants=tuple(
            ShownVariant(url=urls.url(key_of_variant(image.key, each)), **dict(each)) for each in image.variants
        ),
    )


def shown_to_owner(images: Sequence[Image], urls: FileUrls, names: Mapping[UUID, str]) -> list[ShownImage]:
    """All images of a listing, also those that are being processed, or were refused.

    `names` are those of the files, by upload.
    """
    ready = {each.id: shown_to_all(each, urls) for each in listed(images)}
    return [_with_details(image, ready.get(image.id) or _unready(image), names) for image in images]


def shown_card(card: Mapping[str, Any], urls: FileUrls) -> dict[str, Any]:
    """The JSON of a ListingCard, or of the state in an event, with its images as the API returns them."""
    images = [shown_to_all(ListedImage.model_validate(each), urls) for each in card.get("images", ())]
    return {**card, "images": [each.model_dump(mode="json", by_alias=True) for each in images]}


_WITHOUT_IMAGES = b'"images":[]'


def shown_card_json(card: bytes, urls: FileUrls) -> bytes:
    """As `shown_card`. One without images is not parsed: a text in it cannot have unescaped quotes."""
    return card if _WITHOUT_IMAGES in card else orjson.dumps(shown_card(orjson.loads(card), urls))


def _unready(image: Image) -> ShownImage:
    return ShownImage(id=image.id, status=image.status, caption=image.caption, is_primary=False)


def _with_details(image: Image, shown: ShownImage, names: Mapping[UUID, str]) -> ShownImage:
    own: dict[str, Any] = {
        "file_name": names.get(image.upload_id),
        "size": image.size,
        "added_at": image.added_at,
        "reason": image.refused.detail if image.refused else None,
        "reason_code": image.refused.code if image.refused else None,
    }
    return shown.model_copy(update=own)
