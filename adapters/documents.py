"""The table of documents: the state of each, by its id, and those of a user."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, and_, func, literal_column, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.paging import Cursor
from adapters.tables import documents
from domain.documents import Document, DocumentStatus

DOCUMENT_STATE = [
    *(column for column in documents.c if column.name not in {"tenant_id", "sha256", "file_name", "command_id"}),
    func.encode(documents.c.sha256, literal_column("'hex'")).label("key"),
]
"""The columns that `document_of` reads."""


@dataclass(frozen=True)
class NamedDocument:
    """A document with the name of its file, which is personal."""

    document: Document
    file_name: str


def document_of(row: Mapping[Any, Any]) -> Document:
    """The state from a row of `documents`."""
    return Document.model_validate({name: row[name] for name in Document.model_fields})


async def find_document(connection: AsyncConnection, file_id: UUID) -> NamedDocument | None:
    """A document of the connection's tenant, in any status; the caller decides who may see it."""
    query = select(*DOCUMENT_STATE, documents.c.file_name).where(documents.c.file_id == file_id)
    row = (await connection.execute(query)).mappings().one_or_none()
    return NamedDocument(document_of(row), row["file_name"]) if row else None


async def documents_of(
    connection: AsyncConnection, owner_id: UUID, limit: int, cursor: Cursor | None
) -> tuple[Sequence[NamedDocument], Cursor | None]:
    """A page of the documents of a user, newest first, and the cursor of the next page (None on the last one)."""
    return await _page(connection, documents.c.owner_id == owner_id, limit, cursor)


async def documents_at(
    connection: AsyncConnection, property_id: UUID, limit: int, cursor: Cursor | None
) -> tuple[Sequence[NamedDocument], Cursor | None]:
    """A page of the documents that are attached to a listing and can be read, as `documents_of`."""
    attached = documents.c.property_id == property_id, documents.c.status == DocumentStatus.READY
    return await _page(connection, and_(*attached), limit, cursor)


async def _page(
    connection: AsyncConnection, condition: ColumnElement[bool], limit: int, cursor: Cursor | None
) -> tuple[Sequence[NamedDocument], Cursor | None]:
    keyset = documents.c.created_at, documents.c.file_id
    query = select(*DOCUMENT_STATE, documents.c.file_name).where(condition)
    if cursor:
        query = query.where(tuple_(*keyset) < tuple_(cursor.timestamp, cursor.id))
    # One row more than the page, to know whether there is a next one.
    newest_first = query.order_by(*(column.desc() for column in keyset)).limit(limit + 1)
    rows = (await connection.execute(newest_first)).mappings().all()
    last = rows[limit - 1] if len(rows) > limit else None
    following = Cursor(last["created_at"], last["file_id"]) if last else None
    return [NamedDocument(document_of(row), row["file_name"]) for row in rows[:limit]], following
