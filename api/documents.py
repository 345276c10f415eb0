"""Documents: the caller's at /api/files, with its uploads, and those of a listing at /api/properties/{id}/documents."""

from collections.abc import Sequence
from typing import Annotated, Any
from uuid import UUID, uuid5

from fastapi import APIRouter, Query, Request, Response

from adapters.documents import NamedDocument, documents_at, documents_of, find_document
from adapters.file_access import attached_listing
from adapters.uploads import Upload
from api.answers import NoBody, Sender, SenderDep, accepted, answered, command_headers
from api.commands import Accepted, CommandMetadata, Done, new_id, refusal
from api.deps import CallerDep, CursorText, MaybeCallerDep, Parts, PartsDep, TenantDep
from api.errors import ApiError
from api.openapi import AcceptedCommand, command, query
from api.paging import opened, page
from api.receiving import RECEIVING_PROBLEMS, Received, SentFiles, discard, form_body, receive_files
from api.shown_documents import DocumentList, DocumentPage, ShownDocument, shown_document
from api.tokens import Caller
from domain.command import Actor
from domain.documents import AddDocument, DeleteDocument, Document, check_attaching
from domain.errors import Refusal

router = APIRouter(prefix="/api/files", tags=["files"])
listing_router = APIRouter(prefix="/api/properties", tags=["files"])

DOCUMENT_BYTES = 20_000_000
"""Of a document: a sale deed that was scanned in colour."""
_MOST_AT_ONCE, _BYTES_AT_ONCE = 10, 50_000_000
DOCUMENT_PROBLEMS = ("account-closed", "forbidden", "not-found", "too-many-documents")
_ListingQuery = Annotated[
    UUID | None,
    Query(
        alias="propertyId",
        description="A listing to attach to, for its owner and administrators: who may see it may read the document",
    ),
]


@router.post(
    "/upload",
    **command(201, ShownDocument, *DOCUMENT_PROBLEMS, *RECEIVING_PROBLEMS),
    openapi_extra=form_body("file", several=False),
)
async def upload_document(request: Request, sender: SenderDep, property_id: _ListingQuery = None) -> Response:
    """Store a document, a PDF or an image of up to 20 MB, for its owner and administrators.

    It is READY once its bytes are checked, or REFUSED with the reason; GET /api/files shows it.
    """
    received = await _receive(request, sender, property_id, field="file", most_files=1)
    [upload] = received.files
    metadata = sender.metadata(_body(received, property_id))
    return await send_add_document(sender, upload, property_id, metadata)


class AcceptedDocuments(AcceptedCommand):
    """Commands that are durable, of which at least one was not saved within the time that the API waits."""

    command_ids: tuple[UUID, ...]
    """Of the files, in their order: GET /api/commands/{id} shows each."""


_MULTIPLE: Any = command(201, DocumentList, *DOCUMENT_PROBLEMS, *RECEIVING_PROBLEMS)
_MULTIPLE["responses"][202] |= {"model": AcceptedDocuments}


@router.post(
    "/upload/multiple",
    **_MULTIPLE,
    openapi_extra=form_body("files", several=True),
)
async def upload_documents(request: Request, sender: SenderDep, property_id: _ListingQuery = None) -> Response:
    """Store 1 to 10 documents of up to 20 MB, 50 MB together, as POST /api/files/upload does. Each is a command."""
    received = await _receive(request, sender, property_id, field="files", most_files=_MOST_AT_ONCE)
    metadata = sender.metadata(_body(received, property_id))
    outcomes: list[Done | Accepted] = []
    for n, upload in enumerate(received.files):
        each = CommandMetadata(uuid5(metadata.command_id, str(n)), metadata.issued_at, metadata.fingerprint)
        outcomes.append(await _add(sender, upload, property_id, each, others=received.files[n:]))
    running = [outcome for outcome in outcomes if isinstance(outcome, Accepted)]
    done = [outcome for outcome in outcomes if isinstance(outcome, Done)]
    if running:
        # Each is durable, and the list has them all once they are saved.
        return _accepted(running[0], [_command_id(outcome) for outcome in outcomes])
    shown = [_shown(sender, outcome, upload) for outcome, upload in zip(done, received.files, strict=True)]
    headers = command_headers(sender.parts, sender.caller.user_id, done[-1])
    headers |= {"ETag": f'"{done[-1].saved.version}"', "Location": "/api/files"}
    return Response(DocumentList(items=shown).model_dump_json(by_alias=True), 201, headers, "application/json")


@router.get("", **query(DocumentPage, "invalid-request", "invalid-cursor"))
async def list_documents(
    caller: CallerDep,
    parts: PartsDep,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: Annotated[CursorText, Query()] = None,
) -> Response:
    """The caller's documents, newest first."""
    purpose = f"documents:{caller.tenant_id}:{caller.user_id}"
    position = opened(parts.signer.open, purpose, cursor)
    async with parts.database.statements(caller.tenant_id) as connection:
        found, following = await documents_of(connection, caller.user_id, limit, position)
    return _page(parts, found, parts.signer.sign(purpose, following) if following else None)


@listing_router.get(
    "/{property_id}/documents",
    **query(DocumentPage, "invalid-request", "invalid-cursor", "not-found", signed_in="optional"),
)
async def list_documents_of_listing(
    property_id: UUID,
    caller: MaybeCallerDep,
    tenant_id: TenantDep,
    parts: PartsDep,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: Annotated[CursorText, Query()] = None,
) -> Response:
    """The documents that are attached to a listing and READY, newest first. For everybody who may see the listing."""
    tenant_id = caller.tenant_id if caller else tenant_id
    purpose = f"documents-at:{tenant_id}:{property_id}"
    position = opened(parts.signer.open, purpose, cursor)
    async with parts.database.statements(tenant_id) as connection:
        listing = await attached_listing(connection, property_id)
        is_admin = caller is not None and caller.is_admin
        if listing is None or not (is_admin or listing.is_seen_by(caller.user_id if caller else None)):
            raise ApiError("not-found")
        found, following = await documents_at(connection, property_id, limit, position)
    return _page(parts, found, parts.signer.sign(purpose, following) if following else None)


@router.delete("/{file_key}", **command(204, None, "account-closed", "not-found"))
async def delete_document(file_key: UUID, sender: SenderDep) -> Response:
    """Delete a document by its id. Pictures of listings are removed at the listing."""
    outcome = await sender.send(DeleteDocument, NoBody(), str(file_key), file_id=file_key)
    return answered(sender, outcome, 204)


async def send_add_document(
    sender: Sender, upload: Upload, property_id: UUID | None, metadata: CommandMetadata
) -> Response:
    """The response to the command that makes a document of a completed upload. Raises ApiError.

    An upload that no document refers to afterwards is deleted.
    """
    outcome = await _add(sender, upload, property_id, metadata, others=[upload])
    if isinstance(outcome, Accepted):
        return accepted(outcome)
    return await answer_document(sender, outcome, upload.file_name)


async def answer_document(sender: Sender, outcome: Done, file_name: str | None = None) -> Response:
    """The response to the command of a document; without the name of its file, the name that is stored."""
    document = Document.model_validate(outcome.resource)
    if file_name is None:
        async with sender.parts.database.statements(sender.caller.tenant_id) as connection:
            found = await find_document(connection, document.file_id)
        file_name = found.file_name if found else str(document.file_id)  # deleted in the meantime
    shown = shown_document(document, file_name, sender.parts.settings.public_api_url)
    body = shown.model_dump_json(by_alias=True)
    headers = command_headers(sender.parts, sender.caller.user_id, outcome)
    headers |= {"ETag": f'"{outcome.saved.version}"', "Location": f"/api/files/{outcome.saved.aggregate_id}"}
    return Response(body, 201, headers, "application/json")


async def check_listing(parts: Parts, caller: Caller, property_id: UUID) -> None:
    """Refuse a listing to which the caller may attach nothing. Raises ApiError not-found or forbidden."""
    async with parts.database.statements(caller.tenant_id) as connection:
        listing = await attached_listing(connection, property_id)
    try:
        check_attaching(listing, Actor(user_id=caller.user_id, role=caller.role))
    except Refusal as error:
        raise refusal(error.code, error.detail, error.field) from error


async def _receive(
    request: Request, sender: Sender, property_id: UUID | None, *, field: str, most_files: int
) -> Received:
    """Receive the files, once it is known that they may be attached to the listing. Raises ApiError."""
    parts, caller = sender.parts, sender.caller
    # With a key it may be a repetition, which gets its first answer.
    if property_id and sender.key is None:
        await check_listing(parts, caller, property_id)
    return await receive_files(
        request,
        parts,
        caller,
        most_files=most_files,
        most_bytes=DOCUMENT_BYTES,
        most_total=min(most_files * DOCUMENT_BYTES, _BYTES_AT_ONCE),
        property_id=property_id,
        field=field,
    )


def _page(parts: Parts, found: Sequence[NamedDocument], next_cursor: str | None) -> Response:
    shown = (shown_document(each.document, each.file_name, parts.settings.public_api_url) for each in found)
    items = (each.model_dump_json(by_alias=True).encode() for each in shown)
    return page(items, next_cursor, {"Cache-Control": "private, no-store"})


def _body(received: Received, property_id: UUID | None) -> SentFiles:
    """What the fingerprint covers: the files, and the listing, which is in the query."""
    return SentFiles(files=received.body.files, fields={"propertyId": str(property_id)})


async def _add(
    sender: Sender, upload: Upload, property_id: UUID | None, metadata: CommandMetadata, others: Sequence[Upload]
) -> Done | Accepted:
    """Send the command; `others` are the uploads that are not used if it is refused."""
    try:
        outcome = await sender.send(
            AddDocument,
            NoBody(),
            f"{upload.size} bytes",
            metadata,
            file_id=new_id(),
            upload_id=upload.upload_id,
            property_id=property_id,
            size=upload.size,
        )
    except ApiError as error:
        if error.kind not in {"unavailable", "command-running"}:
            await discard(sender.parts, others)
        raise
    if isinstance(outcome, Done) and outcome.repeated and _state(outcome).upload_id != upload.upload_id:
        await discard(sender.parts, [upload])  # an earlier request with the same key has sent it
    return outcome


def _accepted(running: Accepted, command_ids: Sequence[UUID]) -> Response:
    answer = accepted(running)
    first = AcceptedCommand.model_validate_json(bytes(answer.body))
    body = AcceptedDocuments(**dict(first), command_ids=tuple(command_ids))
    headers = {name: answer.headers[name] for name in ("Location", "Command-Id", "Retry-After")}
    return Response(body.model_dump_json(by_alias=True), 202, headers, "application/json")


def _command_id(outcome: Done | Accepted) -> UUID:
    return outcome.command_id if isinstance(outcome, Accepted) else outcome.saved.command_id


def _state(outcome: Done) -> Document:
    return Document.model_validate(outcome.resource)


def _shown(sender: Sender, outcome: Done, upload: Upload) -> ShownDocument:
    return shown_document(_state(outcome), upload.file_name, sender.parts.settings.public_api_url)
