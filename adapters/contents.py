"""The table of contents: bytes by their SHA-256, stored and processed once for each tenant.

Whoever begins to refer to content claims it first (`claim`), writes its objects where they are missing, records what
is written, and only then writes the row that refers to it. The sweep (`adapters/sweeps.py`) holds the row while it
deletes content, and leaves what was claimed in its grace period: so what is referred to is never deleted.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import func, literal, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.tables import file_contents

CONTENTS = "files/"
"""What the keys of all objects of contents begin with."""


@dataclass(frozen=True)
class FileContent:
    """Bytes, and what is known and made of them."""

    tenant_id: str
    sha256: bytes
    size: int
    media_type: str | None
    """As the bytes say; None until somebody has found it."""
    stored_at: datetime | None
    """When the original was written; None if it may be missing."""
    made: dict[str, Any] | None
    """What was made of an image; None if some of it may be missing."""
    refused: dict[str, Any] | None
    """Why no image can be made of it."""

    @property
    def prefix(self) -> str:
        """What the keys of its objects begin with."""
        return key_of(self.tenant_id, self.sha256, "")

    @property
    def original_key(self) -> str:
        """The key of the bytes as they were sent."""
        return f"{self.prefix}original"

    def variant_key(self, name: str) -> str:
        """The key of a variant, such as `640.avif`."""
        return f"{self.prefix}{name}"


class ContentSwept(Exception):
    """The content was deleted while it was written, because that took longer than the grace period; do it again."""


def hash_of(path: Path) -> bytes:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def key_of(tenant_id: str, sha256: bytes, name: str) -> str:
    """The key of an object: `original`, or a variant such as `640.avif`."""
    return f"{CONTENTS}{tenant_id}/{sha256.hex()}/{name}"


_COLUMNS = [file_contents.c[name] for name in FileContent.__dataclass_fields__]


async def claim(connection: AsyncConnection, tenant_id: str, sha256: bytes, size: int) -> FileContent:
    """Claim content before its objects are relied on or written.

    It waits for a sweep that deletes the content. The sweep then leaves it for its grace period, in which the row that
    refers to it must be committed. Without `stored_at` and `made` their objects may be missing: write them all.
    """
    values = {"tenant_id": tenant_id, "sha256": sha256, "size": size, "claimed_at": func.now()}
    claimed = insert(file_contents).values(values)
    upsert = claimed.on_conflict_do_update(
        index_elements=["tenant_id", "sha256"], set_={"claimed_at": claimed.excluded.claimed_at}
    ).returning(*_COLUMNS)
    return FileContent(**(await connection.execute(upsert)).one()._mapping)


async def record_stored(connection: AsyncConnection, content: FileContent, media_type: str) -> bool:
    """Record that the original is written; False if the content was swept since its claim: claim it again."""
    return await _record(connection, content, media_type=media_type, stored_at=func.now())


async def record_made(connection: AsyncConnection, content: FileContent, media_type: str, made: dict[str, Any]) -> bool:
    """Record that the original and all variants of an image are written; False as for `record_stored`."""
    return await _record(connection, content, media_type=media_type, stored_at=func.now(), made=made, refused=None)


async def record_refused(connection: AsyncConnection, content: FileContent, code: str, detail: str) -> bool:
    """Record why no image can be made of the content, so that it is not tried again; False as for `record_stored`."""
    return await _record(connection, content, refused={"code": code, "detail": detail})


async def find_content(connection: AsyncConnection, sha256: bytes) -> FileContent | None:
    """Content of the connection's tenant."""
    row = (await connection.execute(select(*_COLUMNS).where(file_contents.c.sha256 == sha256))).one_or_none()
    return FileContent(**row._mapping) if row else None


async def _record(connection: AsyncConnection, content: FileContent, **values: Any) -> bool:
    """It claims the content anew, because what refers to it follows."""
    of_content = file_contents.c.tenant_id == content.tenant_id, file_contents.c.sha256 == content.sha256
    changed = update(file_contents).where(*of_content).values(claimed_at=func.now(), **values)
    recorded = await connection.execute(changed.returning(literal(1)))
    return recorded.one_or_none() is not None
