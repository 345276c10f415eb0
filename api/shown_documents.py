"""Documents as the API returns them."""

from datetime import datetime
from uuid import UUID

from domain.documents import Document, DocumentRefusal, DocumentStatus
from domain.model import Model


class ShownDocument(Model):
    """A document. It can be read once it is READY."""

    id: UUID
    file_name: str
    content_type: str | None
    """As its bytes say; null unless it is READY."""
    size: int
    """Bytes."""
    status: DocumentStatus
    refused: DocumentRefusal | None
    """Why the file is no document; null unless the status is REFUSED."""
    url: str | None
    """Where its owner can read it with an access token, and who may see the listing that it is attached to; null unless
    it is READY."""
    property_id: UUID | None
    """The listing that it is attached to."""
    created_at: datetime


class DocumentList(Model):
    """The documents of one request, in the order of its files."""

    items: list[ShownDocument]


class DocumentPage(Model):
    """Documents, newest first."""

    items: list[ShownDocument]
    next_cursor: str | None
    """The cursor of the next page; null on the last page."""


def shown_document(document: Document, file_name: str, public_api_url: str) -> ShownDocument:
    """A document for its owner."""
    is_ready = document.status is DocumentStatus.READY
    return ShownDocument(
        id=document.file_id,
        file_name=file_name,
        content_type=document.media_type,
        size=document.size,
        status=document.status,
        refused=document.refused,
        url=f"{public_api_url}/api/files/{document.file_id}" if is_ready else None,
        property_id=document.property_id,
        created_at=document.created_at,
    )
