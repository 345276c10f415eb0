"""The images of a listing: /api/properties/{id}/images."""

from collections.abc import Sequence
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Request, Response
from pydantic import Field

from adapters.current_state import find_property
from adapters.uploads import Upload
from api.answers import IfMatchDep, NoBody, Sender, SenderDep, accepted, command_headers
from api.bodies import BodyOf
from api.commands import Accepted, new_id, refusal
from api.errors import ApiError
from api.openapi import CHANGE, command
from api.property_answers import CountedProperty, images_of
from api.property_changes import ChangerDep
from api.receiving import RECEIVING_PROBLEMS, discard, form_body, receive_files
from api.shown_images import FileUrls, ShownImage, shown_to_owner
from domain import fields as f
from domain.command import Actor
from domain.errors import Refusal
from domain.image_commands import AddImages, ChangeImage, NewImage, OrderImages, RemoveImage
from domain.images import MOST_IMAGES
from domain.model import Model
from domain.property_commands import check_adding

router = APIRouter(prefix="/api/properties", tags=["properties"])

_CHANGE = (*CHANGE, "listing-closed")


class ImageOrder(Model):
    """An order of the images of a listing."""

    image_ids: Annotated[tuple[UUID, ...], Field(max_length=2 * MOST_IMAGES)]
    """Each image of the listing once, also those that are not READY. Refused ones come to the others, from one request
    at most."""


class ImageDetails(Model):
    """What an owner says about an image."""

    caption: f.Caption | None = None
    is_primary: bool = False
    """Whether it stands for the listing where one picture is shown. If none is chosen, the first that is READY does."""


_FILE_BYTES, _REQUEST_BYTES = 10_000_000, 50_000_000


class AddedImages(Model):
    """Files that become images of a listing. Each is READY or REFUSED within seconds; the listing shows it."""

    property_id: UUID
    version: int
    """Of the listing, as in the ETag."""
    images: tuple[ShownImage, ...]


@router.post(
    "/{property_id}/images",
    **command(201, AddedImages, *_CHANGE, "too-many-images", *RECEIVING_PROBLEMS),
    openapi_extra=form_body("files", several=True),
)
async def add_images(property_id: UUID, request: Request, sender: SenderDep, expected: IfMatchDep) -> Response:
    """Add pictures to a listing: 1 to 10 files of up to 10 MB, 50 MB together. For its owner and administrators.

    JPEG, PNG, WebP, AVIF, GIF (its first frame) and HEIC, of up to 50 megapixels. What else a camera writes into the
    file, such as the place where it was taken, is in no picture that is served. A listing has 10 images at most. Files
    that were refused stay in the listing, with their reasons, until the next ones are added. The listing has another
    version, and ETag, when a picture is ready.
    """
    await _check(sender, property_id, expected)
    received = await receive_files(
        request,
        sender.parts,
        sender.caller,
        most_files=MOST_IMAGES,
        most_bytes=_FILE_BYTES,
        most_total=_REQUEST_BYTES,
        property_id=property_id,
    )
    return await send_add_images(sender, property_id, received.files, received.body, expected)


async def send_add_images(
    sender: Sender, property_id: UUID, files: Sequence[Upload], body: Model, expected: tuple[int, ...] | None
) -> Response:
    """The response to the command that makes images of completed uploads. Raises ApiError.

    Uploads that no listing refers to afterwards are deleted.
    """
    images = tuple(
        NewImage(id=new_id(), upload_id=each.upload_id, file_name=each.file_name, size=each.size) for each in files
    )
    summary = f"{len(images)} images: {', '.join(each.file_name for each in files)}"
    try:
        outcome = await sender.send(
            AddImages, body, summary, property_id=property_id, images=images, expected_versions=expected
        )
    except ApiError as error:
        if error.kind not in {"unavailable", "command-running"}:
            await discard(sender.parts, files)
        raise
    if isinstance(outcome, Accepted):
        return accepted(outcome)
    sent = {each.upload_id for each in files}
    added = [image for image in images_of(outcome) if image.command_id == outcome.saved.command_id]
    if not any(image.upload_id in sent for image in added):
        await discard(sender.parts, files)  # an earlier request with the same key has sent them
    names = {each.upload_id: each.file_name for each in files}
    answer = AddedImages(
        property_id=property_id,
        version=outcome.saved.version,
        images=tuple(shown_to_owner(added, FileUrls.of(sender.parts.settings, sender.caller.tenant_id), names)),
    )
    headers = {
        **command_headers(sender.parts, sender.caller.user_id, outcome),
        "ETag": f'"{outcome.saved.version}"',
        "Location": f"/api/properties/{property_id}",
    }
    return Response(answer.model_dump_json(by_alias=True), 201, headers, "application/json")


async def _check(sender: Sender, property_id: UUID, expected: tuple[int, ...] | None) -> None:
    """Refuse what would be refused before megabytes are read. Raises ApiError."""
    if sender.key is not None:
        return  # it may be a repetition, which gets its first answer
    async with sender.parts.database.statements(sender.caller.tenant_id) as connection:
        listing = await find_property(connection, property_id)
    try:
        check_adding(listing, Actor(user_id=sender.caller.user_id, role=sender.caller.role), expected)
    except Refusal as error:
        raise refusal(error.code, error.detail, error.field) from error


@router.put("/{property_id}/images/order", **command(200, CountedProperty, *_CHANGE))
async def order_images(body: BodyOf[ImageOrder], changer: ChangerDep) -> Response:
    """Put the images of a listing into an order. For its owner and administrators."""
    return await changer.send(OrderImages, body, f"{len(body.image_ids)} images", image_ids=body.image_ids)


@router.put("/{property_id}/images/{image_id}", **command(200, CountedProperty, *_CHANGE))
async def change_image(image_id: UUID, body: BodyOf[ImageDetails], changer: ChangerDep) -> Response:
    """Set the caption of an image, and whether it is the primary one. For the owner and administrators."""
    fields = {"image_id": image_id, "caption": body.caption, "is_primary": body.is_primary}
    return await changer.send(ChangeImage, body, str(image_id), **fields)


@router.delete("/{property_id}/images/{image_id}", **command(200, CountedProperty, *_CHANGE))
async def remove_image(image_id: UUID, changer: ChangerDep) -> Response:
    """Remove an image from a listing, also one that is being processed, or was refused. The answer is the listing."""
    return await changer.send(RemoveImage, NoBody(), str(image_id), image_id=image_id)
