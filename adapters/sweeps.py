"""Deletes files that nothing refers to, for every tenant.

Who refers to an upload or to content claims it before (`adapters/uploads.py`, `adapters/contents.py`), and commits what
refers to it within the grace period. Here its row is locked first: a claim waits until the transaction ends, and finds
no row then. One that was claimed in the grace period is left. So nothing that is referred to is ever deleted, and who
claims content that is being deleted writes its objects again.
"""

import random
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import delete, func, literal, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters import tasks
from adapters.contents import CONTENTS, key_of
from adapters.objects import Objects
from adapters.postgres import Database
from adapters.tables import documents, file_contents, imports, property_images, uploads
from adapters.uploads import INCOMING, UPLOADS, incoming_of, uploads_of

_PAGE = 100
"""Rows that are locked together. Their objects are deleted by one call, meanwhile who claims one of them waits."""
_USED_AGAIN = timedelta(days=7)
"""After which what is in use is looked at again, give or take a third so that the rows of a large import are spread:
of ten million photos some 30 rows a second."""
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)
SLICES = 256
"""Of the contents: by the first two digits of their hash."""

GoOn = Callable[[], bool]
"""Whether there is time for more. What is left is found by the next run."""


async def sweep_uploads(database: Database, objects: Objects, before: datetime, go_on: GoOn) -> int:
    """Delete uploads that were last claimed before `before` and that nothing needs; returns how many.

    Raises DatabaseUnavailable or ObjectsUnavailable.
    """
    swept = 0
    while True:
        found, deleted = await tasks.uninterrupted(_sweep_some_uploads(database, objects, before))
        swept += deleted
        if found < _PAGE or not go_on():
            return swept


async def _sweep_some_uploads(database: Database, objects: Objects, before: datetime) -> tuple[int, int]:
    """How many uploads of a page there were, and of how many the object or the row is deleted."""
    async with database.transaction() as tx:
        oldest = (
            select(uploads.c.tenant_id, uploads.c.upload_id, uploads.c.user_id, uploads.c.emptied_at)
            .where(uploads.c.claimed_at < before)
            .order_by(uploads.c.claimed_at)
            .limit(_PAGE)
            .with_for_update(skip_locked=True)
        )
        locked = (await tx.execute(oldest)).all()
        keys = [(row.tenant_id, row.upload_id) for row in locked]
        # A statement of its own: it sees what was committed until the rows were locked.
        needed, shown = await _uses_of_uploads(tx, keys)
        unneeded = [row for row in locked if (row.tenant_id, row.upload_id) not in needed]
        full = [row for row in unneeded if row.emptied_at is None]
        objects_of = uploads_of, incoming_of
        written = [of(row.tenant_id, row.user_id) + str(row.upload_id) for row in full for of in objects_of]
        await objects.delete_keys(written)
        gone = [key for key in keys if key not in needed and key not in shown]
        kept = [key for key in keys if key in needed or key in shown]
        emptied = [(row.tenant_id, row.upload_id) for row in full if (row.tenant_id, row.upload_id) in shown]
        key = tuple_(uploads.c.tenant_id, uploads.c.upload_id)
        await tx.execute(update(uploads).where(key.in_(kept)).values(claimed_at=_later()))
        await tx.execute(update(uploads).where(key.in_(emptied)).values(emptied_at=func.now()))
        await tx.execute(delete(uploads).where(key.in_(gone)))
        return len(locked), len(gone) + len(emptied)


async def _uses_of_uploads(
    connection: AsyncConnection, keys: Sequence[tuple[str, UUID]]
) -> tuple[set[tuple[str, UUID]], set[tuple[str, UUID]]]:
    """The uploads whose object is needed, and those whose file name is shown."""
    needed: set[tuple[str, UUID]] = set()
    shown: set[tuple[str, UUID]] = set()
    if not keys:
        return needed, shown
    of_image = tuple_(property_images.c.tenant_id, property_images.c.upload_id)
    images = select(of_image.clauses[0], of_image.clauses[1], property_images.c.status).where(of_image.in_(keys))
    for tenant_id, upload_id, status in await connection.execute(images):
        (needed if status == "PROCESSING" else shown).add((tenant_id, upload_id))
    of_document = tuple_(documents.c.tenant_id, documents.c.upload_id)
    processing = select(documents.c.tenant_id, documents.c.upload_id).where(
        of_document.in_(keys), documents.c.status == "PROCESSING"
    )
    of_import = tuple_(imports.c.tenant_id, imports.c.upload_id)
    running = select(imports.c.tenant_id, imports.c.upload_id).where(
        of_import.in_(keys), imports.c.finished_at.is_(None)
    )
    for query in (processing, running):
        needed |= {(row[0], row[1]) for row in await connection.execute(query)}
    return needed, shown


async def sweep_contents(database: Database, objects: Objects, before: datetime, go_on: GoOn) -> int:
    """Delete contents that were last claimed before `before` and that nothing refers to; returns how many.

    Raises DatabaseUnavailable or ObjectsUnavailable.
    """
    swept = 0
    while True:
        found, unused = await _retire(database, before)
        for tenant_id, sha256 in unused:
            swept += await tasks.uninterrupted(_delete_content(database, objects, tenant_id, sha256, before))
            if not go_on():
                return swept
        if found < _PAGE or not go_on():
            return swept


async def _retire(database: Database, before: datetime) -> tuple[int, list[tuple[str, bytes]]]:
    """How many contents of a page there were, and those that nothing refers to, which are not relied on any more.

    Committed before objects are deleted: if that is interrupted, whoever claims the content writes them again.
    """
    async with database.transaction() as tx:
        oldest = (
            select(file_contents.c.tenant_id, file_contents.c.sha256)
            .where(file_contents.c.claimed_at < before)
            .order_by(file_contents.c.claimed_at)
            .limit(_PAGE)
            .with_for_update(skip_locked=True)
        )
        keys = [(row.tenant_id, row.sha256) for row in await tx.execute(oldest)]
        used = await _used_contents(tx, keys)
        unused = [key for key in keys if key not in used]
        key = tuple_(file_contents.c.tenant_id, file_contents.c.sha256)
        nothing: dict[str, Any] = {"stored_at": None, "made": None, "refused": None}
        await tx.execute(update(file_contents).where(key.in_(list(used))).values(claimed_at=_later()))
        await tx.execute(update(file_contents).where(key.in_(unused)).values(nothing))
        return len(keys), unused


async def _delete_content(
    database: Database, objects: Objects, tenant_id: str, sha256: bytes, before: datetime
) -> bool:
    """Delete content that is retired, unless it was claimed since."""
    async with database.transaction() as tx:
        this = file_contents.c.tenant_id == tenant_id, file_contents.c.sha256 == sha256
        locked = select(literal(1)).where(*this, file_contents.c.claimed_at < before).with_for_update(skip_locked=True)
        if (await tx.execute(locked)).one_or_none() is None or await _used_contents(tx, [(tenant_id, sha256)]):
            return False
        await objects.delete_prefix(key_of(tenant_id, sha256, ""))
        await tx.execute(delete(file_contents).where(*this))
        return True


async def _used_contents(connection: AsyncConnection, keys: Sequence[tuple[str, bytes]]) -> set[tuple[str, bytes]]:
    """The contents that an image, a document, or an upload that is not emptied refers to."""
    if not keys:
        return set()
    used: set[tuple[str, bytes]] = set()
    for table in (property_images, documents, uploads):
        of_table = tuple_(table.c.tenant_id, table.c.sha256)
        query = select(table.c.tenant_id, table.c.sha256).where(of_table.in_(keys)).distinct()
        if table is uploads:
            query = query.where(uploads.c.emptied_at.is_(None))
        used |= {(row[0], row[1]) for row in await connection.execute(query)}
    return used


async def sweep_lost_uploads(database: Database, objects: Objects, before: datetime) -> AsyncIterator[int]:
    """Delete objects of uploads that were written before `before` and have no row; yields of each page how many.

    A row is committed before its object is written, and no id is used twice.
    """
    for prefix in (UPLOADS, INCOMING):
        async for page in objects.pages(prefix, older_than=before):
            named = {key: _upload_id(key) for key in page}
            async with database.statements() as connection:
                query = select(uploads.c.upload_id).where(uploads.c.upload_id.in_([*filter(None, named.values())]))
                known = set((await connection.execute(query)).scalars())
            lost = [key for key, upload_id in named.items() if upload_id not in known]
            await objects.delete_keys(lost)
            yield len(lost)


async def record_lost_contents(database: Database, objects: Objects, part: int, before: datetime) -> AsyncIterator[int]:
    """Record the contents of one of SLICES whose objects were written before `before` and have no row.

    Yields of each page how many. As contents that were never claimed: so they are deleted like all others, under the
    lock of their row.
    """
    for folder in await objects.folders(CONTENTS):
        tenant_id = folder.removeprefix(CONTENTS).removesuffix("/")
        async for page in objects.pages(f"{folder}{part:02x}", older_than=before):
            hashes = {bytes.fromhex(key.removeprefix(folder).partition("/")[0]) for key in page}
            rows = [{"tenant_id": tenant_id, "sha256": one, "size": 0, "claimed_at": _NEVER} for one in hashes]
            async with database.statements() as connection:
                written = insert(file_contents).on_conflict_do_nothing().returning(literal(1))
                recorded = len((await connection.execute(written.values(rows))).all()) if rows else 0
            yield recorded


def _later() -> Any:
    """When what is in use may be looked at again: as if it was claimed then. A claim meanwhile brings that forward."""
    return func.now() + _USED_AGAIN * random.uniform(2 / 3, 4 / 3)


def _upload_id(key: str) -> UUID | None:
    try:
        return UUID(key.rpartition("/")[2])
    except ValueError:
        return None
