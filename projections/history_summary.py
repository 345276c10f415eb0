"""The query of a history's summary: from counts, so that it takes as long for a million entries as for a hundred."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from uuid import UUID

from sqlalchemy import ARRAY, Text, any_, bindparam, func, literal, literal_column, select
from sqlalchemy.types import Date

from adapters.postgres import Database
from adapters.tables import activity_counts, read_models
from domain.events import KINDS
from domain.india import INDIA
from projections.history import History
from projections.history_rows import rows_of

LATEST_DAYS = 30
_TYPES = [*KINDS]

_ALL_TYPES, _ALL_DAYS = literal(""), literal_column("DATE '-infinity'", Date)
_OF_USER = (
    activity_counts.c.user_id == bindparam("user_id"),
    activity_counts.c.generation
    == select(read_models.c.generation).where(read_models.c.name == History.name).scalar_subquery(),
)
_OF_A_TYPE = (*_OF_USER, activity_counts.c.activity_type == any_(bindparam("types", type_=ARRAY(Text))))
_BY_TYPE = select(activity_counts.c.activity_type, activity_counts.c.total).where(
    *_OF_A_TYPE, activity_counts.c.day == _ALL_DAYS
)
_LATELY = (
    select(activity_counts.c.activity_type, func.sum(activity_counts.c.total).label("total"))
    .where(*_OF_A_TYPE, activity_counts.c.day >= bindparam("first_day", type_=Date))
    .group_by(activity_counts.c.activity_type)
)
_MOST_ACTIVE = (
    select(activity_counts.c.day, activity_counts.c.total)
    .where(*_OF_USER, activity_counts.c.activity_type == _ALL_TYPES, activity_counts.c.day > _ALL_DAYS)
    .order_by(activity_counts.c.total.desc(), activity_counts.c.day.desc())
    .limit(1)
)


@dataclass(frozen=True)
class ActiveDay:
    """A day in Asia/Kolkata and its number of entries."""

    day: date
    count: int


@dataclass(frozen=True)
class Summary:
    """What a history has."""

    by_type: dict[str, int]
    latest_by_type: dict[str, int]
    """Of the last LATEST_DAYS days, today included."""
    most_active: ActiveDay | None
    """The latest of several."""
    latest: bytes | None
    """The newest entry as JSON."""


class HistorySummaries:
    """The query."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of(self, tenant_id: str, user_id: UUID, now: datetime) -> Summary:
        """The summary of a user's history. Raises DatabaseUnavailable."""
        first_day = now.astimezone(INDIA).date() - timedelta(days=LATEST_DAYS - 1)
        which = {"user_id": user_id, "types": _TYPES, "first_day": first_day}
        async with self._database.statements(tenant_id) as connection:
            by_type = {row.activity_type: row.total for row in await connection.execute(_BY_TYPE, which)}
            lately = {row.activity_type: int(row.total) for row in await connection.execute(_LATELY, which)}
            most = (await connection.execute(_MOST_ACTIVE, which)).one_or_none()
            _, newest = await rows_of(connection, str(user_id), 1)
        return Summary(
            by_type=dict(sorted(by_type.items())),
            latest_by_type=dict(sorted(lately.items())),
            most_active=ActiveDay(most.day, most.total) if most else None,
            latest=newest[0] if newest else None,
        )
