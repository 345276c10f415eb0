"""Reads of saved searches, from the rows that their commands write, and the records of their rounds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

import orjson
from sqlalchemy import ARRAY, Uuid, and_, any_, bindparam, delete, func, or_, select, text, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.delivery_reports import UNDELIVERED
from adapters.search.rows import LATE_AFTER
from adapters.tables import completed_rebuilds, deliveries, saved_filters, saved_search_matches, users
from domain.matching import Reading, Reported, SentMail
from domain.notifications import in_app_id
from domain.preferences import Channel
from domain.saved_searches import SavedSearch
from domain.user import MAY_SIGN_IN

OVERLAP = LATE_AFTER
"""How far a round looks back beyond the checkpoint: transactions of the projection do not end in the order of time.

What was reported is known, and what was no news is none the second time.
"""
_RECORDED = ("last_round_at", "checkpoint", "generation", "unread_mails")
_OF_ROUNDS = {"tenant_id", *_RECORDED}
SAVED_SEARCH_STATE = [column for column in saved_filters.c if column.name not in _OF_ROUNDS]
"""The columns that `saved_search_of_row` reads."""
MAX_REPORTED = 2_000
"""Listings that are remembered of a saved search, the newest, beside those that the next round may find again."""
MAX_UNREAD_MAILS = 500
"""Times of mails that are remembered: more than an instant search sends before it pauses itself."""
_M = saved_search_matches.c

_REBUILT = select(
    func.max(completed_rebuilds.c.generation),
    func.min(completed_rebuilds.c.started_at).filter(completed_rebuilds.c.generation > bindparam("known")),
)
_READINGS = text("""
SELECT event_type, timestamp, event_data
FROM user_history.event_store
WHERE user_id = :user_id AND timestamp >= :since
  AND event_type IN ('NOTIFICATIONS_READ', 'PROPERTY_VIEWED', 'SAVED_SEARCH_VISITED')
""")
_FORGET = delete(saved_search_matches).where(
    _M.saved_search_id == bindparam("of"),
    _M.reported_at < bindparam("before"),
    _M.property_id.in_(
        select(_M.property_id)
        .where(_M.saved_search_id == bindparam("of"))
        .order_by(_M.reported_at.desc(), _M.property_id)
        .offset(MAX_REPORTED)
    ),
)


@dataclass(frozen=True)
class ActiveSavedSearch:
    """A saved search that is not paused, and what its rounds have recorded."""

    search: SavedSearch
    last_round_at: datetime | None
    checkpoint: datetime | None
    """When the read model applied the last change of any listing of the tenant that it had at the last round."""
    generation: int
    """Of the last rebuild of the read model that was complete at the last round."""
    unread_mails: tuple[datetime, ...]
    """When those mails were sent, one after the other, that were not read when the last of them was sent."""

    @property
    def applied_since(self) -> datetime:
        """The next round looks at changes that were applied from then on."""
        return max(self.search.since, self.checkpoint or self.search.since) - OVERLAP

    @property
    def changed_since(self) -> datetime:
        """A change from then on is news, unless it was late: by the times of events."""
        return max(self.search.since, self.applied_since)


def saved_search_of_row(row: Mapping[Any, Any]) -> SavedSearch:
    """The aggregate state from a row of `saved_filters`."""
    values = {column.name: row[column.name] for column in SAVED_SEARCH_STATE}
    filters = orjson.dumps(values.pop("filters"), option=orjson.OPT_SORT_KEYS).decode()
    return SavedSearch(id=values.pop("saved_search_id"), filters=filters, **values)


async def find(connection: AsyncConnection, user_id: UUID, saved_search_id: UUID) -> SavedSearch | None:
    """A saved search of a user of the connection's tenant."""
    query = select(*SAVED_SEARCH_STATE).where(
        saved_filters.c.saved_search_id == saved_search_id, saved_filters.c.user_id == user_id
    )
    row = (await connection.execute(query)).mappings().one_or_none()
    return saved_search_of_row(row) if row else None


async def of_user(connection: AsyncConnection, user_id: UUID) -> list[SavedSearch]:
    """The saved searches of a user of the connection's tenant, newest first."""
    newest = saved_filters.c.created_at.desc(), saved_filters.c.saved_search_id
    query = select(*SAVED_SEARCH_STATE).where(saved_filters.c.user_id == user_id).order_by(*newest)
    return [saved_search_of_row(row) for row in (await connection.execute(query)).mappings()]


async def find_active(connection: AsyncConnection, saved_search_id: UUID) -> ActiveSavedSearch | None:
    """A saved search whose rounds go on: it is not paused, and its owner may sign in."""
    query = (
        select(*SAVED_SEARCH_STATE, *(saved_filters.c[name] for name in _RECORDED))
        .join(users, users.c.user_id == saved_filters.c.user_id)
        .where(saved_filters.c.saved_search_id == saved_search_id, saved_filters.c.paused.is_(None))
        .where(users.c.status.in_(list(MAY_SIGN_IN)))
    )
    row = (await connection.execute(query)).mappings().one_or_none()
    if row is None:
        return None
    return ActiveSavedSearch(
        saved_search_of_row(row), row["last_round_at"], row["checkpoint"], row["generation"], tuple(row["unread_mails"])
    )


@dataclass(frozen=True)
class Rebuilt:
    """The rebuilds of the read model of search since a round."""

    generation: int
    """Of the last one that is complete; 0 without any."""
    since: datetime | None
    """When the first of those that the round did not know began; None without any."""


async def rebuilt_since(connection: AsyncConnection, known: int) -> Rebuilt:
    """The rebuilds since that of a generation.

    A rebuild may apply changes that the old generation lacks, such as parked ones: they are found only once it serves,
    and may be older than the checkpoint then.
    """
    generation, since = (await connection.execute(_REBUILT, {"known": known})).one()
    return Rebuilt(generation or 0, since)


async def record_round(
    connection: AsyncConnection,
    seen: ActiveSavedSearch,
    at: datetime,
    due_at: datetime,
    unread_mails: Sequence[datetime],
) -> bool:
    """Record that a round is done; False when it was done before, or its search has changed in the meantime.

    Of too many unread mails the first is kept, because the pause depends on its age, and the newest.
    """
    c = saved_filters.c
    kept = [*unread_mails[:1], *unread_mails[1:][1 - MAX_UNREAD_MAILS :]]
    values = {"checkpoint": seen.checkpoint, "generation": seen.generation, "unread_mails": kept}
    done = (
        update(saved_filters)
        .where(c.saved_search_id == seen.search.id, c.version == seen.search.version)
        .where(or_(c.last_round_at.is_(None), c.last_round_at < at))
        .values(last_round_at=at, due_at=due_at, **values)
    )
    return (await connection.execute(done)).rowcount > 0


async def reported_of(
    connection: AsyncConnection, saved_search_id: UUID, property_ids: Sequence[UUID]
) -> dict[UUID, Reported]:
    """What a saved search has reported of listings."""
    query = select(_M.property_id, _M.version, _M.price, _M.back_at).where(
        _M.saved_search_id == saved_search_id,
        _M.property_id == any_(bindparam("ids", list(property_ids), type_=ARRAY(Uuid))),
    )
    return {row.property_id: Reported(row.version, row.price, row.back_at) for row in await connection.execute(query)}


async def store_reported(
    connection: AsyncConnection, of: UUID, rows: Sequence[Mapping[str, Any]], before: datetime
) -> None:
    """Record what a saved search reports, and forget what is older than `before` and than the newest `MAX_REPORTED`."""
    written = insert(saved_search_matches)
    latest = {
        **{name: written.excluded[name] for name in ("version", "price", "reported_at")},
        "back_at": func.coalesce(written.excluded.back_at, _M.back_at),
    }
    upsert = written.on_conflict_do_update(index_elements=list(saved_search_matches.primary_key), set_=latest)
    await connection.execute(upsert, [dict(row) for row in rows])
    await connection.execute(_FORGET, {"of": of, "before": before})


async def mails_of(connection: AsyncConnection, active: ActiveSavedSearch) -> list[SentMail]:
    """The mails of a saved search that were unread, oldest first.

    A listing that was viewed shows that the last mail with it was read, also one beyond those that the mail shows.
    """
    search = active.search
    reported = select(_M.property_id, _M.reported_at).where(
        _M.saved_search_id == search.id, _M.reported_at >= active.unread_mails[0]
    )
    listings: dict[datetime, set[UUID]] = {}
    for row in await connection.execute(reported):
        listings.setdefault(row.reported_at, set()).add(row.property_id)
    event_ids = {at: round_id(search.id, at) for at in active.unread_mails}
    d = deliveries.c
    delivered = select(d.event_id).where(
        d.event_id == any_(bindparam("ids", list(event_ids.values()), type_=ARRAY(Uuid))),
        d.channel == Channel.EMAIL.value,
        d.recipient_id == search.user_id,
        d.sent_at.is_not(None),
        func.coalesce(d.reported, "").not_in(UNDELIVERED),
    )
    known = set((await connection.execute(delivered)).scalars())
    return [
        SentMail(in_app_id(id, search.user_id), at, frozenset(listings.get(at, ())), id in known)
        for at, id in event_ids.items()
    ]


def round_id(saved_search_id: UUID, at: datetime) -> UUID:
    """The id of the event of a round, which is the same for each attempt."""
    return uuid5(saved_search_id, f"round/{at.astimezone(UTC).isoformat()}")


async def readings_of(
    connection: AsyncConnection, user_id: UUID, saved_search_id: UUID, since: datetime
) -> list[Reading]:
    """What a user did since `since` that may show that mails of a saved search are read."""
    readings = []
    for row in await connection.execute(_READINGS, {"user_id": str(user_id), "since": since}):
        data, at = row.event_data, row.timestamp
        match row.event_type:
            case "PROPERTY_VIEWED":
                readings.append(Reading(at, viewed=UUID(data["propertyId"])))
            case "SAVED_SEARCH_VISITED":
                if data["savedSearchId"] == str(saved_search_id):
                    readings.append(Reading(at, is_visit=True))
            case "NOTIFICATIONS_READ":
                one, up_to = data.get("notificationId"), data.get("upTo")
                readings.append(
                    Reading(at, UUID(one) if one else None, datetime.fromisoformat(up_to) if up_to else None)
                )
    return readings


@dataclass(frozen=True)
class Due:
    """A saved search whose round is overdue."""

    due_at: datetime
    tenant_id: str
    saved_search_id: UUID
    user_id: UUID


async def overdue(
    connection: AsyncConnection, now: datetime, late: timedelta, limit: int, after: Due | None = None
) -> list[Due]:
    """Saved searches of every tenant whose round was due `late` ago, oldest first: a page after a position."""
    c = saved_filters.c
    place = c.due_at, c.tenant_id, c.saved_search_id
    of_user = and_(users.c.tenant_id == c.tenant_id, users.c.user_id == c.user_id)
    query = (
        select(*place, c.user_id)
        .join(users, of_user)
        .where(c.paused.is_(None), c.due_at < now - late, users.c.status.in_(list(MAY_SIGN_IN)))
        .order_by(*place)
        .limit(limit)
    )
    if after:
        query = query.where(tuple_(*place) > (after.due_at, after.tenant_id, after.saved_search_id))
    return [Due(*row) for row in await connection.execute(query)]
