"""The table of uploads: files that clients send, until something is made of them.

Whoever begins to refer to an upload claims it first (`claim`), and only then writes the row that refers to it. The
sweep (`adapters/sweeps.py`) holds the row while it deletes an upload, and leaves one that was claimed in its grace
period: so one that is referred to is never deleted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from sqlalchemy import ARRAY, Uuid, any_, bindparam, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.objects import Objects
from adapters.postgres import Database
from adapters.tables import uploads

UPLOADS = "uploads/"
"""What the keys of all completed uploads begin with."""
INCOMING = "incoming/"
"""What the keys begin with to which clients write. Completing an upload copies it from there, because a client may
write to its URL again until that expires."""


@dataclass(frozen=True)
class Upload:
    """A file that a client sends, or has sent."""

    tenant_id: str
    upload_id: UUID
    user_id: UUID
    property_id: UUID | None
    file_name: str
    media_type: str
    """As the client says."""
    size: int
    """Bytes; of one that is not completed, as the client says."""
    sha256: bytes | None
    """None if the bytes did not pass through the API."""
    created_at: datetime
    completed_at: datetime | None = None
    emptied_at: datetime | None = None
    """When its object was deleted, because what was made of it has its own."""

    @property
    def status(self) -> Literal["PENDING", "COMPLETED"]:
        return "COMPLETED" if self.completed_at else "PENDING"

    @property
    def key(self) -> str:
        """The key of the file in the object storage, once it is completed."""
        return f"{uploads_of(self.tenant_id, self.user_id)}{self.upload_id}"

    @property
    def incoming_key(self) -> str:
        """The key to which a client writes the file."""
        return f"{incoming_of(self.tenant_id, self.user_id)}{self.upload_id}"


_COLUMNS = [uploads.c[name] for name in Upload.__dataclass_fields__]


def uploads_of(tenant_id: str, user_id: UUID) -> str:
    """What the keys of a user's completed uploads begin with."""
    return f"{UPLOADS}{tenant_id}/{user_id}/"


def incoming_of(tenant_id: str, user_id: UUID) -> str:
    """What the keys begin with to which a user writes."""
    return f"{INCOMING}{tenant_id}/{user_id}/"


async def begin(connection: AsyncConnection, upload: Upload) -> None:
    """Record an upload before its object is written, so that the sweep finds it whatever happens."""
    values = {name: getattr(upload, name) for name in Upload.__dataclass_fields__}
    await connection.execute(insert(uploads).values(**values, claimed_at=func.now()))


async def complete(connection: AsyncConnection, upload_id: UUID) -> Upload | None:
    """Record that the object of an upload is written; None if the sweep or an erasure has deleted its row."""
    completed = {"completed_at": func.coalesce(uploads.c.completed_at, func.now()), "claimed_at": func.now()}
    return await _updated(connection, upload_id, completed)


async def claim(connection: AsyncConnection, upload_id: UUID, user_id: UUID | None = None) -> Upload | None:
    """Claim a completed upload, of `user_id` if given, before something refers to it; None if there is none.

    It waits for a sweep that deletes the upload. The sweep then leaves it for its grace period, in which the row that
    refers to it must be committed.
    """
    upload = await _updated(connection, upload_id, {"claimed_at": func.now()}, user_id)
    return upload if upload and upload.completed_at and not upload.emptied_at else None


async def record_hash(connection: AsyncConnection, upload_id: UUID, sha256: bytes) -> None:
    """Record the hash of the bytes of an upload, which refers to their content from then on."""
    await connection.execute(update(uploads).where(uploads.c.upload_id == upload_id).values(sha256=sha256))


async def find_upload(connection: AsyncConnection, upload_id: UUID) -> Upload | None:
    """An upload of the connection's tenant, completed or not."""
    row = (await connection.execute(select(*_COLUMNS).where(uploads.c.upload_id == upload_id))).one_or_none()
    return Upload(**row._mapping) if row else None


async def file_names(connection: AsyncConnection, upload_ids: Sequence[UUID]) -> dict[UUID, str]:
    """The names of the files of uploads of the connection's tenant, by id."""
    query = select(uploads.c.upload_id, uploads.c.file_name).where(
        uploads.c.upload_id == any_(bindparam("upload_ids", type_=ARRAY(Uuid)))
    )
    return {row.upload_id: row.file_name for row in await connection.execute(query, {"upload_ids": upload_ids})}


async def lock_upload(connection: AsyncConnection, upload_id: UUID) -> Upload | None:
    """An upload of the connection's tenant, locked until the transaction ends; None if there is none.

    The sweep leaves it meanwhile, and an erasure waits.
    """
    query = select(*_COLUMNS).where(uploads.c.upload_id == upload_id).with_for_update()
    row = (await connection.execute(query)).one_or_none()
    return Upload(**row._mapping) if row else None


async def delete_uploads(database: Database, objects: Objects, some: Sequence[Upload]) -> None:
    """Delete uploads that nothing refers to any more. Raises DatabaseUnavailable or ObjectsUnavailable.

    The object first: without it the row is left to the sweep.
    """
    for upload in some:
        await objects.delete(upload.key)
        async with database.statements(upload.tenant_id) as connection:
            await connection.execute(delete(uploads).where(uploads.c.upload_id == upload.upload_id))


async def _updated(
    connection: AsyncConnection, upload_id: UUID, values: Mapping[str, object], user_id: UUID | None = None
) -> Upload | None:
    changed = update(uploads).where(uploads.c.upload_id == upload_id).values(values).returning(*_COLUMNS)
    if user_id:
        changed = changed.where(uploads.c.user_id == user_id)
    row = (await connection.execute(changed)).one_or_none()
    return Upload(**row._mapping) if row else None
