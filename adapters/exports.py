"""The table of exports: files with a person's history and data, each behind a link that ends after a day."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlencode
from uuid import UUID

from sqlalchemy import delete, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.objects import Objects
from adapters.postgres import Database
from adapters.sealing import token_hash
from adapters.tables import commands, exports

EXPORT_PATH = "/api/users/export"
LIFETIME = timedelta(days=1)
"""Of a link and its file: long enough to find the mail, and short enough for a file with all that one has done."""
EXPORTS = "exports/"
"""What the keys of all files begin with."""


@dataclass(frozen=True)
class Export:
    """A requested file."""

    tenant_id: str
    export_id: UUID
    user_id: UUID
    requested_at: datetime
    ready_at: datetime | None
    expires_at: datetime | None
    size: int | None

    @property
    def key(self) -> str:
        """The key of the file in the object storage."""
        return file_of(self.tenant_id, self.user_id, self.export_id)


_COLUMNS = [exports.c[name] for name in Export.__dataclass_fields__]


def files_of(tenant_id: str, user_id: UUID) -> str:
    """What the keys of a user's files begin with."""
    return f"{EXPORTS}{tenant_id}/{user_id}/"


def file_of(tenant_id: str, user_id: UUID, export_id: UUID) -> str:
    """The key of a file in the object storage."""
    return f"{files_of(tenant_id, user_id)}{export_id}.jsonl"


def export_url(public_api_url: str, tenant_id: str, token: str) -> str:
    """The link of a mail. It names the tenant, because several portals may share the host of the API."""
    return f"{public_api_url}{EXPORT_PATH}?{urlencode({'token': f'{tenant_id}.{token}'})}"


def read_export_token(token: str) -> tuple[str, bytes]:
    """The tenant and the hash of the token in a link. Of a text that is none, no export has them."""
    tenant_id, _, secret = token.rpartition(".")
    return tenant_id, token_hash(secret)


async def find_export(connection: AsyncConnection, export_id: UUID, *, locked: bool = False) -> Export | None:
    """An export of the connection's tenant; None if its person is erased. `locked` until the transaction ends."""
    query = select(*_COLUMNS).where(exports.c.export_id == export_id)
    row = (await connection.execute(query.with_for_update() if locked else query)).one_or_none()
    return Export(**row._mapping) if row else None


async def find_by_token(connection: AsyncConnection, hashed: bytes, now: datetime) -> Export | None:
    """The export of the connection's tenant whose link has a token with this hash, and has not ended."""
    query = select(*_COLUMNS).where(exports.c.token_hash == hashed, exports.c.expires_at > now)
    row = (await connection.execute(query)).one_or_none()
    return Export(**row._mapping) if row else None


async def mark_ready(
    connection: AsyncConnection, export_id: UUID, ready_at: datetime, size: int, hashed: bytes
) -> None:
    """Record that a file is written, and the hash of the token of its link."""
    ready = {"ready_at": ready_at, "expires_at": ready_at + LIFETIME, "size": size, "token_hash": hashed}
    await connection.execute(update(exports).where(exports.c.export_id == export_id).values(ready))


async def expired(connection: AsyncConnection, now: datetime, limit: int) -> Sequence[Export]:
    """Exports of every tenant whose link has ended, and whose file is not deleted yet."""
    query = select(*_COLUMNS).where(exports.c.expires_at <= now).order_by(exports.c.expires_at).limit(limit)
    return [Export(**row._mapping) for row in await connection.execute(query)]


async def mark_deleted(connection: AsyncConnection, export: Export) -> None:
    """Record that a file is deleted."""
    of_export = exports.c.tenant_id == export.tenant_id, exports.c.export_id == export.export_id
    await connection.execute(update(exports).where(*of_export).values(expires_at=None, token_hash=None))


async def pending_since(
    connection: AsyncConnection, before: datetime, limit: int, after: Export | None = None
) -> Sequence[tuple[Export, str | None]]:
    """Exports of every tenant that were requested before `before` and are not written, with their fingerprints.

    Oldest first: a page after a position.
    """
    place = exports.c.requested_at, exports.c.tenant_id, exports.c.export_id
    of_command = (commands.c.tenant_id == exports.c.tenant_id) & (commands.c.command_id == exports.c.export_id)
    query = (
        select(*_COLUMNS, commands.c.fingerprint)
        .join(commands, of_command)
        .where(exports.c.ready_at.is_(None), exports.c.requested_at < before)
        .order_by(*place)
        .limit(limit)
    )
    if after:
        query = query.where(tuple_(*place) > (after.requested_at, after.tenant_id, after.export_id))
    return [(Export(*row[:-1]), row.fingerprint) for row in await connection.execute(query)]


async def delete_of_user(
    database: Database, objects: Objects, tenant_id: str, user_id: UUID, progress: Callable[[], None]
) -> None:
    """Delete the rows of a user, then the files. Raises DatabaseUnavailable or ObjectsUnavailable.

    In this order no file is left: one that has a row was written before, and is listed; the writer of any other finds
    no row, and deletes it (`activities/exports.py`).
    """
    async with database.statements(tenant_id) as connection:
        await connection.execute(delete(exports).where(exports.c.user_id == user_id))
    async for key in objects.keys(files_of(tenant_id, user_id)):
        await objects.delete(key)
        progress()
