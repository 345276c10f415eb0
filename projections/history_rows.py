"""The SQL of history pages: each is a range of an index, however long the history is."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, Select, Text, bindparam, column, exists, func, select, true, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.paging import Cursor
from adapters.tables import read_models, user_activity
from domain.activity import Activity
from projections.history import History, entry_json

_SERVING = select(read_models.c.generation).where(read_models.c.name == History.name).scalar_subquery()


@dataclass(frozen=True)
class Wanted:
    """Which entries of a history a page has."""

    since: datetime | None = None
    """The earliest time."""
    before: Cursor | None = None
    """Only older entries."""
    types: tuple[str, ...] = ()
    """Activity types; empty for all."""


EVERYTHING = Wanted()


async def rows_of(
    connection: AsyncConnection, user_id: str, limit: int, wanted: Wanted = EVERYTHING
) -> tuple[int, list[bytes]]:
    """The serving generation and a user's entries in it, newest first, by one statement so that they are consistent."""
    # LATERAL, so that LIMIT ends an index scan; an outer join, so that the generation is returned without entries too.
    if wanted.types:
        # A scan for each type: one over all types would read past all the others.
        of = (
            func.unnest(bindparam("types", type_=ARRAY(Text)))
            .table_valued(column("type", Text), name="wanted")
            .render_derived()
        )
        of_type = _newest(user_id, limit, wanted).where(user_activity.c.activity_type == of.c.type)
        each = of_type.correlate(read_models, of).lateral("of_type")
        merged = select(each).join_from(of, each, true())
        newest = merged.order_by(each.c.timestamp.desc(), each.c.event_id.desc()).limit(limit)
    else:
        newest = _newest(user_id, limit, wanted)
    page = newest.correlate(read_models).lateral("page")
    with_generation = (
        select(read_models.c.generation.label("serving"), page)
        .join_from(read_models, page, true(), isouter=True)
        .where(read_models.c.name == History.name)
        .order_by(page.c.timestamp.desc(), page.c.event_id.desc())
    )
    rows = list(await connection.execute(with_generation, {"types": list(wanted.types)} if wanted.types else {}))
    return rows[0].serving, _entries(rows)


async def has_row(connection: AsyncConnection, event_id: UUID) -> bool:
    """Whether an event is in the serving generation."""
    of_event = user_activity.c.event_id == event_id, user_activity.c.generation == _SERVING
    return bool((await connection.execute(select(exists().where(*of_event)))).scalar_one())


def _newest(user_id: str, limit: int, wanted: Wanted) -> Select[*tuple[Any, ...]]:
    query = select(user_activity).where(
        user_activity.c.user_id == user_id, user_activity.c.generation == read_models.c.generation
    )
    if wanted.before:
        place = tuple_(user_activity.c.timestamp, user_activity.c.event_id)
        query = query.where(place < tuple_(wanted.before.timestamp, wanted.before.id))
    if wanted.since:
        query = query.where(user_activity.c.timestamp >= wanted.since)
    return query.order_by(user_activity.c.timestamp.desc(), user_activity.c.event_id.desc()).limit(limit)


def _entries(rows: Sequence[Any]) -> list[bytes]:
    return [
        entry_json(
            Activity(
                event_id=row.event_id,
                user_id=row.user_id,
                tenant_id=row.tenant_id,
                activity_type=row.activity_type,
                description=row.description,
                timestamp=row.timestamp,
                activity_data=row.activity_data,
            )
        )
        for row in rows
        if row.event_id is not None
    ]
