"""Uploads past the API, straight to the object storage: /api/files/uploads."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import Field

from adapters import uploads
from adapters.file_access import owner_and_status
from adapters.objects import ObjectsUnavailable
from adapters.uploads import Upload
from api.answers import NoBody, SenderDep
from api.bodies import BodyOf
from api.commands import new_id
from api.deps import CallerDep, Parts, PartsDep
from api.documents import DOCUMENT_BYTES, DOCUMENT_PROBLEMS, answer_document, send_add_document
from api.errors import ApiError, FieldError, responses, unavailable
from api.images import AddedImages, send_add_images
from api.multipart import clean_name
from api.openapi import SIGNED_IN, command, query
from api.receiving import count_megabytes
from api.shown_documents import ShownDocument
from api.tokens import Caller
from domain import fields as f
from domain.model import Model

router = APIRouter(prefix="/api/files/uploads", tags=["files"])

LIFETIME = timedelta(minutes=15)
"""Of a URL: 200 MB at 250 kB a second."""
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
    """A listing of the caller: an image becomes a picture of it, a PDF is attached to it."""


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
        await _check_owner(parts, caller, body.property_id)
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
    return _shown(_own(upload, caller))


_Completed: Any = ShownUpload | ShownDocument | AddedImages


@router.post(
    "/{upload_id}/complete",
    **command(201, _Completed, *DOCUMENT_PROBLEMS, "upload-incomplete", "listing-closed", "too-many-images"),
)
async def complete_upload(upload_id: UUID, sender: SenderDep) -> Response:
    """Use the file of an upload once it is sent. It can be repeated, with the same answer.

    An image with a listing becomes a picture of it (the answer of POST /api/properties/{id}/images); a PDF, or an image
    without a listing, a document (that of POST /api/files/upload); a file to import waits for POST
    /api/properties/import, and the answer is the upload.
    """
    # One command for each upload, whoever repeats the request.
    keyed = replace(sender, key=str(upload_id))
    metadata = keyed.metadata(NoBody())
    async with sender.parts.database.statements(sender.caller.tenant_id) as connection:
        upload = await uploads.find_upload(connection, upload_id)
    if upload is None:
        # The upload of a document is deleted once that is checked.
        done = await keyed.repeated(metadata)
        if done and "fileId" in (done.resource or {}):
            return await answer_document(keyed, done)
    upload = await _complete(sender.parts, _own(upload, sender.caller))
    if upload.media_type in SHEETS:
        return _shown(upload, 201)
    if upload.property_id and upload.media_type in _IMAGES:
        return await send_add_images(keyed, upload.property_id, [upload], NoBody(), None)
    return await send_add_document(keyed, upload, upload.property_id, metadata)


async def _complete(parts: Parts, upload: Upload) -> Upload:
    """Record that an upload is complete. Raises ApiError upload-incomplete, not-found or unavailable."""
    if upload.completed_at:
        return upload
    async with parts.database.statements(upload.tenant_id) as connection:
        await uploads.claim(connection, upload.upload_id)
    try:
        if not await parts.objects.copy(upload.incoming_key, upload.key):
            raise ApiError("upload-incomplete")
        # Of the copy, because the client may write to its URL again.
        found = await parts.objects.find(upload.key)
        if found is None or found.size != upload.size:
            raise ApiError("upload-incomplete")
        async with parts.database.statements(upload.tenant_id) as connection:
            completed = await uploads.complete(connection, upload.upload_id)
        await parts.objects.delete(upload.incoming_key)
    except ObjectsUnavailable as error:
        raise unavailable("The object storage") from error
    if completed is None:
        raise _no_upload()
    return completed


async def _check_owner(parts: Parts, caller: Caller, property_id: UUID) -> None:
    async with parts.database.statements(caller.tenant_id) as connection:
        listing = await owner_and_status(connection, property_id)
    is_own = listing is not None and (caller.is_admin or listing[0] == caller.user_id)
    if listing is None or not (is_own or listing[1]):
        raise ApiError("not-found", "There is no listing with this id that you may see. Check propertyId.")
    if not is_own:
        raise ApiError("forbidden", "Only the owner or an administrator may change this listing.")


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


def _own(upload: Upload | None, caller: Caller) -> Upload:
    if upload is None or upload.user_id != caller.user_id:
        raise _no_upload()
    return upload


def _no_upload() -> ApiError:
    return ApiError("not-found", "You have no upload with this id. It may have been used, or deleted after a day.")


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
    return Response(shown.model_dump_json(by_alias=True), status, headers, "application/json")
