"""Deletes the files of a person who is erased: uploads and documents at once, contents by the sweep."""

from collections.abc import Callable
from uuid import UUID

from sqlalchemy import delete, func, update

from adapters.objects import Objects
from adapters.postgres import Database
from adapters.tables import documents, file_contents, uploads
from adapters.uploads import incoming_of, uploads_of


async def delete_of_user(
    database: Database, objects: Objects, tenant_id: str, user_id: UUID, progress: Callable[[], None]
) -> None:
    """Delete the rows of a user, then the uploaded files. Raises DatabaseUnavailable or ObjectsUnavailable.

    In this order none is left: what has a row was written before, and is listed; the writer of any other finds no row
    when it completes the upload, and deletes the file. What documents and pictures were stored as may be shared with
    others, so the sweep deletes it, after its grace period, if nobody else refers to it.
    """
    async with database.statements(tenant_id) as connection:
        of_user = delete(documents).where(documents.c.owner_id == user_id).returning(documents.c.sha256)
        stored = [sha256 for sha256 in (await connection.execute(of_user)).scalars() if sha256]
        # Its grace period begins, and the sweep does not take it for content that is in use.
        unclaimed = update(file_contents).where(file_contents.c.sha256.in_(stored)).values(claimed_at=func.now())
        await connection.execute(unclaimed)
        await connection.execute(delete(uploads).where(uploads.c.user_id == user_id))
    progress()
    for prefix in (uploads_of(tenant_id, user_id), incoming_of(tenant_id, user_id)):
        await objects.delete_prefix(prefix)
        progress()
