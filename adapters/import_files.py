"""The files of imports in the object storage: their beginning, and their rows from any position on."""

from collections.abc import AsyncGenerator, Sequence
from hashlib import sha256

from adapters.objects import Objects
from domain.import_reading import (
    HEAD,
    MAX_COLUMNS,
    TOO_MANY_COLUMNS,
    FileUnreadable,
    Layout,
    Position,
    RowReader,
    SourceRow,
    read_layout,
)

MISSING = "The file is not there any more. Upload it again."


async def head_of(objects: Objects, key: str) -> bytes:
    """The first bytes of a file, which `read_layout` needs. Raises FileUnreadable or ObjectsUnavailable."""
    found = await objects.get(key)
    if found is None:
        raise FileUnreadable(MISSING)
    head = b""
    try:
        async for chunk in found.chunks:
            head += chunk
            if len(head) >= HEAD:
                break
    finally:
        found.close()
    return head[:HEAD]


async def hash_of(objects: Objects, key: str) -> bytes:
    """The SHA-256 of a file. Raises FileUnreadable or ObjectsUnavailable."""
    found = await objects.get(key)
    if found is None:
        raise FileUnreadable(MISSING)
    digest = sha256()
    try:
        async for chunk in found.chunks:
            digest.update(chunk)
    finally:
        found.close()
    return digest.digest()


def columns_of(head: bytes) -> tuple[Layout, Sequence[str]]:
    """How a file is written, and its columns: of JSON Lines, the names in its first rows. Raises FileUnreadable."""
    layout = read_layout(head)
    if layout.header:
        return layout, layout.header
    names: dict[str, None] = {}
    reader = RowReader(layout)
    rows = [*reader.feed(head[layout.start.offset :])]
    if len(head) < HEAD:
        rows += reader.finish()
    for row in rows:
        names |= dict.fromkeys(row.values or ())
    if len(names) > MAX_COLUMNS:
        raise FileUnreadable(TOO_MANY_COLUMNS)
    return layout, tuple(names)


async def batches_of(
    objects: Objects, key: str, layout: Layout, position: Position, size: int
) -> AsyncGenerator[list[SourceRow], None]:
    """The rows of a file after a position, `size` at a time. Raises FileUnreadable or ObjectsUnavailable."""
    found = await objects.find(key)
    if found is None:
        raise FileUnreadable(MISSING)
    reader, batch = RowReader(layout, position), list[SourceRow]()
    if position.offset < found.size:
        content = await objects.get(key, position.offset)
        if content is None:
            raise FileUnreadable(MISSING)
        try:
            async for chunk in content.chunks:
                for row in reader.feed(chunk):
                    batch.append(row)
                    if len(batch) == size:
                        yield batch
                        batch = []
        finally:
            content.close()
    batch += reader.finish()
    if batch:
        yield batch
