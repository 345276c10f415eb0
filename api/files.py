"""Serves files: /api/files/{file_key}. Pictures of listings, originals, and documents."""

import re
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar
from uuid import UUID

from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from adapters.contents import key_of
from adapters.documents import find_document
from adapters.file_access import attached_listing, original_type, use_of_picture
from adapters.objects import Content, Found, ObjectsUnavailable
from api import documents, uploads
from api.deps import MaybeCallerDep, Parts, PartsDep, TenantDep
from api.errors import ApiError, header_references, unavailable
from api.openapi import query
from api.ranges import attachment, is_unchanged, wanted_range
from api.tokens import Caller
from domain.documents import DocumentStatus

F = TypeVar("F", Content, Found)

router = APIRouter(prefix="/api/files", tags=["files"])
# before `/{file_key}`, which would match their paths as keys.
router.routes.extend([*uploads.router.routes, *documents.router.routes])

_VARIANT = re.compile(r"(?P<sha256>[0-9a-f]{64})-(?P<name>[0-9]{1,5}\.(?P<type>avif|webp|jpg))")
_ORIGINAL = re.compile(r"(?P<sha256>[0-9a-f]{64})-original")
_DOCUMENT = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_TYPES = {"avif": "image/avif", "webp": "image/webp", "jpg": "image/jpeg"}
_SUFFIXES = {"image/jpeg": "jpg", "application/pdf": "pdf"}
_PUBLIC = "public, max-age=31536000, immutable"
"""For a year: another picture has another key."""
_PRIVATE = "private, no-cache"
"""Kept by the browser, which asks each time whether it may show it still."""
_INERT = "default-src 'none'; sandbox"
"""The Content-Security-Policy of a file that is opened as a page: it loads and runs nothing."""
_BYTES: dict[str, Any] = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}


@dataclass(frozen=True)
class _Served:
    """A file that the caller may read."""

    object_key: str
    media_type: str
    headers: dict[str, str]


class _Streamed(StreamingResponse):
    """A response from the object storage, whose connection is closed when the client goes away."""

    def __init__(self, content: Content, status: int, headers: dict[str, str], media_type: str) -> None:
        super().__init__(content.chunks, status, headers, media_type)
        self._content = content

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._content.close()


_DOCUMENTED = query("File", "not-found", "document-not-ready", "range-not-satisfiable", signed_in="optional", etag=True)
_DOCUMENTED["responses"] |= {
    200: {"description": "The file", "content": _BYTES, "headers": header_references("ETag")},
    206: {"description": "A range of the file", "content": _BYTES, "headers": header_references("ETag")},
    304: {"description": "If-None-Match has the ETag of the file", "headers": header_references("ETag")},
}


@router.get("/{file_key}", response_class=StreamingResponse, **_DOCUMENTED)
async def get_file(
    file_key: Annotated[str, Path(max_length=100)],
    request: Request,
    caller: MaybeCallerDep,
    tenant_id: TenantDep,
    parts: PartsDep,
    tenant: Annotated[
        str | None,
        Query(
            max_length=63,
            description="The portal whose picture it is, as in the URLs of its pictures; otherwise the host says it.",
        ),
    ] = None,
    if_none_match: Annotated[str | None, Header()] = None,
    range_: Annotated[str | None, Header(alias="Range")] = None,
    if_range: Annotated[str | None, Header()] = None,
) -> Response:
    """A file. Everybody may read the pictures of listings that are public; other files need an access token.

    `{sha256}-{width}.avif`, `.webp` or `.jpg` is a picture of a listing, for everybody who may see the listing;
    `{sha256}-original` the file as its owner has sent it, for the owner and administrators; the id of a document the
    document, for its owner, administrators, and everybody who may see the listing that it is attached to.
    """
    # Which tenant's listing shows a picture is no secret, and a page cannot send a token for it.
    tenant_id = caller.tenant_id if caller else tenant or tenant_id
    served = await _find(parts, tenant_id, file_key, caller)
    if served is None:
        raise ApiError("not-found")
    try:
        return await _answer(parts, served, bool(request.scope.get("is_head")), if_none_match, range_, if_range)
    except ObjectsUnavailable as error:
        raise unavailable("The object storage") from error


async def _answer(
    parts: Parts,
    served: _Served,
    is_head: bool,
    if_none_match: str | None,
    wanted: str | None,
    if_range: str | None,
) -> Response:
    """Raises ObjectsUnavailable, or ApiError not-found or range-not-satisfiable."""
    headers = {
        "Accept-Ranges": "bytes",
        "Content-Security-Policy": _INERT,
        "Cross-Origin-Resource-Policy": "cross-origin",  # pages of the portal show pictures of the API
        **served.headers,
    }
    if is_head or if_none_match or wanted:
        found = _present(await parts.objects.find(served.object_key))
        headers["ETag"] = found.etag
        if is_unchanged(if_none_match, found.etag):
            return Response(status_code=304, headers=headers)
        if is_head:
            return Response(None, 200, headers | {"Content-Length": str(found.size)}, served.media_type)
        if between := wanted_range(wanted, if_range, found.etag, found.size):
            content = _present(await parts.objects.get(served.object_key, *between))
            headers["Content-Range"] = f"bytes {between[0]}-{between[1]}/{found.size}"
            return _streamed(content, 206, headers, served)
    content = _present(await parts.objects.get(served.object_key))
    return _streamed(content, 200, headers, served)


def _present(found: F | None) -> F:
    if found is None:
        raise ApiError("not-found")  # the file was deleted just now, or has no such width
    return found


def _streamed(content: Content, status: int, headers: dict[str, str], served: _Served) -> Response:
    sized = headers | {"ETag": content.etag, "Content-Length": str(content.size)}
    return _Streamed(content, status, sized, served.media_type)


async def _find(parts: Parts, tenant_id: str, key: str, caller: Caller | None) -> _Served | None:
    """The file of a key, if the caller may read it."""
    if variant := _VARIANT.fullmatch(key):
        return await _picture(parts, tenant_id, variant, caller)
    if original := _ORIGINAL.fullmatch(key):
        return await _original(parts, tenant_id, original["sha256"], caller)
    if _DOCUMENT.fullmatch(key):
        return await _document(parts, tenant_id, UUID(key), caller)
    return None


async def _picture(parts: Parts, tenant_id: str, variant: re.Match[str], caller: Caller | None) -> _Served | None:
    sha256 = bytes.fromhex(variant["sha256"])
    async with parts.database.statements(tenant_id) as connection:
        use = await use_of_picture(connection, sha256, caller.user_id if caller else None)
    if use is None or not (use.is_public or use.is_own or (caller and caller.is_admin)):
        return None
    headers = {"Cache-Control": _PUBLIC if use.is_public else _PRIVATE}
    return _Served(key_of(tenant_id, sha256, variant["name"]), _TYPES[variant["type"]], headers)


async def _original(parts: Parts, tenant_id: str, sha256: str, caller: Caller | None) -> _Served | None:
    if caller is None:
        return None
    owner_id = None if caller.is_admin else caller.user_id
    async with parts.database.statements(tenant_id) as connection:
        media_type = await original_type(connection, bytes.fromhex(sha256), owner_id)
    if media_type is None:
        return None
    suffix = _SUFFIXES.get(media_type, media_type.partition("/")[2])
    headers = {"Cache-Control": _PRIVATE, "Content-Disposition": attachment(f"{sha256[:16]}.{suffix}")}
    return _Served(key_of(tenant_id, bytes.fromhex(sha256), "original"), media_type, headers)


async def _document(parts: Parts, tenant_id: str, file_id: UUID, caller: Caller | None) -> _Served | None:
    """Raises ApiError document-not-ready, for its owner and administrators."""
    async with parts.database.statements(tenant_id) as connection:
        found = await find_document(connection, file_id)
        if found is None:
            return None
        attached_to = found.document.property_id
        listing = await attached_listing(connection, attached_to) if attached_to else None
    document = found.document
    is_own = caller is not None and (caller.is_admin or caller.user_id == document.owner_id)
    if document.status is not DocumentStatus.READY:
        if is_own:
            raise ApiError("document-not-ready", document.refused.detail if document.refused else None)
        return None
    may_read = is_own or (listing is not None and listing.is_seen_by(caller.user_id if caller else None))
    if not may_read or not (document.key and document.media_type):
        return None
    headers = {"Cache-Control": _PRIVATE, "Content-Disposition": attachment(found.file_name)}
    return _Served(key_of(tenant_id, bytes.fromhex(document.key), "original"), document.media_type, headers)
