"""The tables of imports: the row of each, which has its checkpoint, the lines of its report, and its listings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, Delete, Select, String, Uuid, bindparam, delete, func, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.paging import Cursor
from adapters.tables import import_listings, import_problems, imports
from domain.import_reading import Layout, Position
from domain.imports import Import, ImportStatus, RowCounts


@dataclass(frozen=True)
class ImportRow:
    """An import, and how far it has come."""

    tenant_id: str
    import_id: UUID
    user_id: UUID
    version: int
    upload_id: UUID
    file_name: str
    size: int
    mapping: dict[str, str] | None
    defaults: dict[str, Any]
    status: str
    reason: str | None
    sha256: bytes | None
    layout: dict[str, Any] | None
    byte_offset: int
    line: int
    row: int
    saved: int
    updated: int
    unchanged: int
    refused: int
    reported: int
    working_seconds: float
    started_at: datetime
    updated_at: datetime
    finished_at: datetime | None

    @property
    def position(self) -> Position:
        """Where the next row is read from."""
        return Position(offset=self.byte_offset, line=self.line, row=self.row)

    @property
    def read_layout(self) -> Layout | None:
        """How the file is written; None until it was looked at."""
        return Layout.model_validate(self.layout) if self.layout else None

    @property
    def counts(self) -> RowCounts:
        return RowCounts(
            read=self.row, saved=self.saved, updated=self.updated, unchanged=self.unchanged, refused=self.refused
        )

    @property
    def is_running(self) -> bool:
        return self.finished_at is None and self.status == ImportStatus.RUNNING

    @property
    def state(self) -> Import:
        return Import(
            id=self.import_id,
            user_id=self.user_id,
            version=self.version,
            status=ImportStatus(self.status),
            reason=self.reason,
            started_at=self.started_at,
            finished_at=self.finished_at,
        )


@dataclass(frozen=True)
class Problem:
    """A line of a report: what is wrong with a field of a row, or what its owner should know of it."""

    row: int
    number: int
    """Of the problems of the row, from 0."""
    line: int
    """Of the file."""
    field: str
    value: str
    reason: str


_COLUMNS = [imports.c[name] for name in ImportRow.__dataclass_fields__]
_ADD_LISTINGS = (
    insert(import_listings)
    .from_select(
        ["tenant_id", "import_id", "property_id"],
        select(
            bindparam("tenant_id", type_=String),
            bindparam("import_id", type_=Uuid),
            func.unnest(bindparam("property_ids", type_=ARRAY(Uuid))),
        ),
    )
    .on_conflict_do_nothing()
    .returning(import_listings.c.property_id)
)
_VALUE, _FIELD = 200, 100
"""Characters of a value and a field that a report keeps."""


async def find(connection: AsyncConnection, import_id: UUID, *, locked: bool = False) -> ImportRow | None:
    """An import of the connection's tenant; None if its person is erased. `locked` until the transaction ends."""
    query = select(*_COLUMNS).where(imports.c.import_id == import_id)
    row = (await connection.execute(query.with_for_update() if locked else query)).one_or_none()
    return ImportRow(**row._mapping) if row else None


async def of_user(
    connection: AsyncConnection, user_id: UUID, limit: int, cursor: Cursor | None
) -> tuple[list[ImportRow], Cursor | None]:
    """A page of a user's imports, newest first, and the cursor of the next page."""
    keyset = imports.c.started_at, imports.c.import_id
    query = select(*_COLUMNS).where(imports.c.user_id == user_id)
    if cursor:
        query = query.where(tuple_(*keyset) < tuple_(cursor.timestamp, cursor.id))
    newest_first = query.order_by(*(column.desc() for column in keyset)).limit(limit + 1)
    found = [ImportRow(**row._mapping) for row in await connection.execute(newest_first)]
    last = found[limit - 1] if len(found) > limit else None
    return found[:limit], Cursor(last.started_at, last.import_id) if last else None


def unfinished_of(user_id: Any) -> Select[int]:
    """A query of how many imports of a user are not finished."""
    return select(func.count()).where(imports.c.user_id == user_id, imports.c.finished_at.is_(None))


async def set_status(
    connection: AsyncConnection, import_id: UUID, status: ImportStatus, among: Sequence[ImportStatus]
) -> bool:
    """Set the status of an unfinished import whose status is one of `among`; False if there is none.

    It waits for the batch that is being saved; no later one is.
    """
    c = imports.c
    changed = (
        update(imports)
        .where(c.import_id == import_id, c.finished_at.is_(None), c.status.in_([one.value for one in among]))
        .values(status=status.value, updated_at=func.now())
    )
    return bool((await connection.execute(changed)).rowcount)


async def prepare(
    connection: AsyncConnection, import_id: UUID, sha256: bytes, layout: Layout, mapping: Mapping[str, str]
) -> None:
    """Record what is known of a file once it was looked at, and put the checkpoint before its first row."""
    start = layout.start
    await connection.execute(
        update(imports)
        .where(imports.c.import_id == import_id, imports.c.layout.is_(None))
        .values(
            sha256=sha256,
            layout=layout.model_dump(mode="json"),
            mapping=mapping,
            byte_offset=start.offset,
            line=start.line,
            row=start.row,
            updated_at=func.now(),
        )
    )


async def advance(
    connection: AsyncConnection, of: ImportRow, to: Position, counts: RowCounts, reported: int, seconds: float
) -> None:
    """Move the checkpoint of a locked import, in the transaction of the rows before it; `counts` are of these rows."""
    c = imports.c
    await connection.execute(
        update(imports)
        .where(c.import_id == of.import_id)
        .values(
            byte_offset=to.offset,
            line=to.line,
            row=to.row,
            saved=c.saved + counts.saved,
            updated=c.updated + counts.updated,
            unchanged=c.unchanged + counts.unchanged,
            refused=c.refused + counts.refused,
            reported=c.reported + reported,
            working_seconds=c.working_seconds + seconds,
            updated_at=func.now(),
        )
    )


async def add_listings(tx: AsyncConnection, tenant_id: str, import_id: UUID, property_ids: Sequence[UUID]) -> set[UUID]:
    """Record the listings of rows, each once, in their transaction; returns those that no earlier row has."""
    if not property_ids:
        return set()
    values = {"tenant_id": tenant_id, "import_id": import_id, "property_ids": property_ids}
    return set((await tx.execute(_ADD_LISTINGS, values)).scalars())


def forget_listings(import_id: UUID) -> Delete:
    """The statement that deletes the listings of an import that has ended."""
    return delete(import_listings).where(import_listings.c.import_id == import_id)


async def add_problems(
    connection: AsyncConnection, tenant_id: str, import_id: UUID, problems: Sequence[Problem]
) -> None:
    """Insert lines of a report."""
    rows = [
        {
            "tenant_id": tenant_id,
            "import_id": import_id,
            **vars(one),
            "field": one.field[:_FIELD],
            "value": _storable(one.value)[:_VALUE],
        }
        for one in problems
    ]
    if rows:
        await connection.execute(insert(import_problems), rows)


def _storable(value: str) -> str:
    """A value of a file as Postgres stores it: without NUL characters and lone surrogates."""
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()


async def problems_of(
    connection: AsyncConnection, import_id: UUID, after: tuple[int, int], limit: int
) -> list[Problem]:
    """A page of a report, ordered by row."""
    c = import_problems.c
    columns = [c[name] for name in Problem.__dataclass_fields__]
    query = select(*columns).where(c.import_id == import_id, tuple_(c.row, c.number) > tuple_(*after))
    return [Problem(**row._mapping) for row in await connection.execute(query.order_by(c.row, c.number).limit(limit))]


async def overdue(
    connection: AsyncConnection, before: datetime, limit: int, after: ImportRow | None = None
) -> list[ImportRow]:
    """Imports of every tenant that should go on, and have not since `before`; those oldest, after a position."""
    c = imports.c
    place = c.updated_at, c.tenant_id, c.import_id
    query = select(*_COLUMNS).where(
        c.finished_at.is_(None), c.status != ImportStatus.PAUSED.value, c.updated_at < before
    )
    if after:
        query = query.where(tuple_(*place) > (after.updated_at, after.tenant_id, after.import_id))
    return [ImportRow(**row._mapping) for row in await connection.execute(query.order_by(*place).limit(limit))]
