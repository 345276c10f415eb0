"""Uploads past the API, straight to the object storage: /api/files/uploads."""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Header, Request, Response
from pydantic import Field

from adapters import tasks, uploads
from adapters.current_state import find_property
from adapters.objects import ObjectsUnavailable
from adapters.uploads import Upload
from api.answers import NoBody, Sender, expected_versions
from api.bodies import BodyOf
from api.commands import new_id, refusal
from api.deps import CallerDep, Parts, PartsDep
from api.documents import DOCUMENT_BYTES, DOCUMENT_PROBLEMS, answer_document, check_listing, send_add_document
from api.errors import ApiError, FieldError, header_references, responses, unavailable
from api.images import AddedImages, send_add_images
from api.multipart import clean_name
from api.openapi import SIGNED_IN, command, query
from api.receiving import count_megabytes
from api.shown_documents import ShownDocument
from api.tokens import Caller
from domain import fields as f
from domain.command import Actor
from domain.errors import Refusal
from domain.model import Model
from domain.property_commands import check_adding

router = APIRouter(prefix="/api/files/uploads", tags=["files"])

LIFETIME = timedelta(minutes=15)
"""Of a URL: 200 MB at 250 kB a second."""
_COMPLETING = asyncio.Semaphore(3)
"""Uploads that are completed at once: each holds a connection to the database while the storage copies, which takes
milliseconds, and long while it does not answer."""
_WAIT_SECONDS = 5.0
"""For those before, until the client is asked to try again."""
_IMAGE_BYTES, SHEET_BYTES = 10_000_000, 200_000_000
"""Of an image of a listing, and of a file to import."""
_IMAGES = frozenset(f"image/{kind}" for kind in ("jpeg", "png", "webp", "avif", "gif", "heic", "heif"))
_PDF = "application/pdf"
SHEETS = frozenset(
    {
        "text/csv",
        "application/csv",
        "application/vnd.ms-excel",  # of a CSV file on Windows
        "text/plain",
        "application/json",
        "application/jsonl",
        "application/x-ndjson",
    }
)
"""The types of files to import, as clients name them."""


class NewUpload(Model):
    """A file that a client wants to send to the object storage."""

    file_name: f.FileName
    content_type: Annotated[str, Field(max_length=100, examples=["image/jpeg"])]
    """An image or `application/pdf`; or of a file to import `text/csv` or `application/x-ndjson`."""
    size: Annotated[f.Whole, Field(ge=1, le=SHEET_BYTES)]
    """Bytes of the file, exactly: the URL takes no other size."""
    property_id: UUID | None = None
    """A listing that the caller may change: an image becomes a picture of it, a PDF is attached to it."""


class BegunUpload(Model):
    """Where and how to send the file."""

    upload_id: UUID
    method: Literal["PUT"]
    url: str
    """Send the bytes of the file there, as the whole body."""
    headers: dict[str, str]
    """To send with them, besides the Content-Length that every HTTP library sends."""
    expires_at: datetime
    max_bytes: int


class ShownUpload(Model):
    """An upload. One that nothing uses is deleted after a day."""

    upload_id: UUID
    file_name: str
    content_type: str
    """As the client says."""
    size: int
    """Bytes."""
    status: Literal["PENDING", "COMPLETED"]
    property_id: UUID | None
    created_at: datetime


@router.post(
    "",
    status_code=201,
    response_model=BegunUpload,
    responses=responses(
        *SIGNED_IN, "invalid-request", "forbidden", "not-found", "file-too-large", "too-many-requests", "unavailable"
    ),
)
async def begin_upload(body: BodyOf[NewUpload], caller: CallerDep, parts: PartsDep) -> Response:
    """Begin an upload: the answer says where to send the file within 15 minutes; complete it afterwards.

    The way for large files, and for many. Images of listings have up to 10 MB, documents 20, files to import 200.
    """
    most = _most_bytes(body)
    await count_megabytes(parts, caller, body.size)
    if body.property_id:
        await check_listing(parts, caller, body.property_id)
    now = datetime.now(UTC)
    upload = Upload(
        tenant_id=caller.tenant_id,
        upload_id=new_id(),
        user_id=caller.user_id,
        property_id=body.property_id,
        file_name=clean_name(body.file_name) or "file",
        media_type=body.content_type,
        size=body.size,
        sha256=None,
        created_at=now,
    )
    seconds = round(LIFETIME.total_seconds())
    try:
        url = await parts.objects.presigned_put(upload.incoming_key, upload.size, upload.media_type, seconds)
    except ObjectsUnavailable as error:
        raise unavailable("The object storage") from error
    async with parts.database.statements(caller.tenant_id) as connection:
        await uploads.begin(connection, upload)
    begun = BegunUpload(
        upload_id=upload.upload_id,
        method="PUT",
        url=url,
        headers={"Content-Type": upload.media_type},
        expires_at=now + LIFETIME,
        max_bytes=most,
    )
    headers = {"Location": f"/api/files/uploads/{upload.upload_id}", "Cache-Control": "private, no-store"}
    return Response(begun.model_dump_json(by_alias=True), 201, headers, "application/json")


@router.get("/{upload_id}", **query(ShownUpload, "invalid-request", "not-found"))
async def get_upload(upload_id: UUID, caller: CallerDep, parts: PartsDep) -> Response:
    """An upload of the caller that is not used yet, or is being processed."""
    async with parts.database.statements(caller.tenant_id) as connection:
        upload = await uploads.find_upload(connection, upload_id)
    return _shown(_own(upload, caller.user_id))


_Completed: Any = ShownUpload | ShownDocument | AddedImages
_OF_IMAGES = ("invalid-if-match", "precondition-required", "version-conflict", "listing-closed", "too-many-images")
_COMPLETE: Any = command(201, _Completed, *DOCUMENT_PROBLEMS, *_OF_IMAGES, "upload-incomplete")
_COMPLETE["responses"][201] = {
    "description": "What the upload has become; headers of commands are absent of a file to import, which waits",
    "headers": header_references("Location", "Idempotency-Replayed")
    | {
        # Not as of every command, where they are required.
        "Command-Id": {"description": "The id of the command", "schema": {"type": "string", "format": "uuid"}},
        "Consistency-Token": {"description": "To read what the command wrote", "schema": {"type": "string"}},
        "ETag": {"description": "The version of the document, or of the listing", "schema": {"type": "string"}},
    },
}
_IfMatch = Annotated[
    str | None,
    Header(description='Of an image with a listing, required: the ETag of the listing, such as `"1"`, or `*`.'),
]


@router.post("/{upload_id}/complete", **_COMPLETE)
async def complete_upload(
    upload_id: UUID, request: Request, caller: CallerDep, parts: PartsDep, if_match: _IfMatch = None
) -> Response:
    """Use the file of an upload once it is sent. It can be repeated, with the same answer, without an Idempotency-Key.

    An image with a listing becomes a picture of it (the answer of POST /api/properties/{id}/images); a PDF, or an image
    without a listing, a document (that of POST /api/files/upload); a file to import waits for POST
    /api/properties/import, and the answer is the upload.
    """
    # One command for each upload, whoever repeats the request.
    sender = Sender(parts, caller, str(upload_id), f"{request.method} {request.url.path}")
    metadata = sender.metadata(NoBody())
    async with parts.database.statements(caller.tenant_id) as connection:
        upload = await uploads.find_upload(connection, upload_id)
    if upload is None:
        # The upload of a document is deleted once that is checked.
        done = await sender.repeated(metadata)
        if done and "fileId" in (done.resource or {}):
            return await answer_document(sender, done)
    upload = _own(upload, caller.user_id)
    if (listing := upload.property_id) and upload.media_type in _IMAGES:
        expected = await expected_versions(if_match)
        if upload.completed_at is None:
            await _check_adding(parts, caller, listing, expected)
        upload = await _complete(parts, upload)
        return await send_add_images(sender, listing, [upload], NoBody(), expected)
    upload = await _complete(parts, upload)
    if upload.media_type in SHEETS:
        return _shown(upload, 201)
    return await send_add_document(sender, upload, upload.property_id, metadata)


async def _check_adding(parts: Parts, caller: Caller, property_id: UUID, expected: tuple[int, ...] | None) -> None:
    """Refuse what would be refused while the upload is kept, so that it can be completed by another request."""
    async with parts.database.statements(caller.tenant_id) as connection:
        listing = await find_property(connection, property_id)
    try:
        check_adding(listing, Actor(user_id=caller.user_id, role=caller.role), expected)
    except Refusal as error:
        raise refusal(error.code, error.detail, error.field) from error


async def _complete(parts: Parts, upload: Upload) -> Upload:
    """Record that an upload is complete. Raises ApiError upload-incomplete, not-found or unavailable."""
    if upload.completed_at:
        return upload
    try:
        async with asyncio.timeout(_WAIT_SECONDS):
            await _COMPLETING.acquire()
    except TimeoutError as error:
        raise unavailable("The object storage") from error
    try:
        return await tasks.uninterrupted(_copy(parts, upload))
    except ObjectsUnavailable as error:
        raise unavailable("The object storage") from error
    finally:
        _COMPLETING.release()


async def _copy(parts: Parts, upload: Upload) -> Upload:
    """Copy the file to where the client cannot write, unless another request has.

    While its row is locked: otherwise another request could replace the copy by what the client has sent since.
    """
    async with parts.database.transaction(upload.tenant_id) as tx:
        locked = await uploads.lock_upload(tx, upload.upload_id)
        if locked is None or locked.completed_at:
            return _own(locked, upload.user_id)
        if not await parts.objects.copy(upload.incoming_key, upload.key):
            raise ApiError("upload-incomplete")
        # Of the copy, because the client may write to its URL again.
        found = await parts.objects.find(upload.key)
        if found is None or found.size != upload.size:
            raise ApiError("upload-incomplete")
        completed = await uploads.complete(tx, upload.upload_id)
    with suppress(ObjectsUnavailable):  # the sweep deletes it
        await parts.objects.delete(upload.incoming_key)
    return _own(completed, upload.user_id)


def _most_bytes(body: NewUpload) -> int:
    """The most bytes of such a file. Raises ApiError invalid-request or file-too-large."""
    if body.content_type in _IMAGES:
        most = _IMAGE_BYTES if body.property_id else DOCUMENT_BYTES
    elif body.content_type == _PDF:
        most = DOCUMENT_BYTES
    elif body.content_type in SHEETS and body.property_id is None:
        most = SHEET_BYTES
    else:
        known = ", ".join(sorted({*_IMAGES, _PDF, *(() if body.property_id else SHEETS)}))
        raise ApiError("invalid-request", errors=[FieldError(field="contentType", reason=f"Send one of {known}.")])
    if body.size > most:
        raise ApiError("file-too-large", f"Send at most {most // 1_000_000} MB.")
    return most


def _own(upload: Upload | None, user_id: UUID) -> Upload:
    if upload is None or upload.user_id != user_id:
        raise ApiError("not-found", "You have no upload with this id. It may have been used, or deleted after a day.")
    return upload


def _shown(upload: Upload, status: int = 200) -> Response:
    shown = ShownUpload(
        upload_id=upload.upload_id,
        file_name=upload.file_name,
        content_type=upload.media_type,
        size=upload.size,
        status=upload.status,
        property_id=upload.property_id,
        created_at=upload.created_at,
    )
    headers = {"Cache-Control": "private, no-store"}
    if status == 201:
        headers["Location"] = f"/api/files/uploads/{upload.upload_id}"
    return Response(shown.model_dump_json(by_alias=True), status, headers, "application/json")
