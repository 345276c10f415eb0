"""Reads of saved searches, from the rows that their commands write, and the records of their rounds."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

import orjson
from sqlalchemy import ARRAY, Text, Uuid, and_, any_, bindparam, delete, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.delivery_reports import UNDELIVERED
from adapters.tables import deliveries, saved_filters, saved_search_matches, users
from domain.matching import Gone, Reading, Reported, SentMail, Step, likeness_of
from domain.notifications import in_app_id
from domain.preferences import Channel
from domain.property_status import PropertyStatus
from domain.saved_searches import SavedSearch
from domain.user import MAY_SIGN_IN

OVERLAP = timedelta(hours=6)
"""How far a round looks back beyond the checkpoint: partitions of Kafka are not equally late, nor are clocks.

What was reported is known, and what was no news is none the second time.
"""
_OF_ROUNDS = {"tenant_id", "last_round_at", "checkpoint", "unread_mails"}
SAVED_SEARCH_STATE = [column for column in saved_filters.c if column.name not in _OF_ROUNDS]
"""The columns that `saved_search_of_row` reads."""
MAX_REPORTED = 2_000
"""Listings that are remembered of a saved search, the newest, beside those that the next round may find again."""
MAX_UNREAD_MAILS = 500
"""Times of mails that are remembered: more than an instant search sends before it pauses itself."""
_MAX_GONE = 1_000
"""Listings that are looked at to find relistings. Only an owner who deletes a thousand a month has more."""
_WHOLE = ("PROPERTY_CREATED", "PROPERTY_UPDATED", "PROPERTY_PRICE_CHANGED", "PROPERTY_STATUS_CHANGED")
"""The events that have the whole state of a listing."""
_GONE = {PropertyStatus.WITHDRAWN, PropertyStatus.PAUSED, PropertyStatus.EXPIRED, PropertyStatus.REJECTED}
_LONG_AGO = datetime.min.replace(tzinfo=UTC)
"""Older releases did not write when a listing was listed."""
_M = saved_search_matches.c

_STEPS = text("""
SELECT aggregate_id, timestamp, event_data->>'status' AS status, event_data->>'price' AS price
FROM user_history.event_store
WHERE tenant_id = :tenant_id AND aggregate_id = ANY(:ids) AND version > 0 AND event_type = ANY(:types)
ORDER BY aggregate_id, version
""").bindparams(bindparam("ids", type_=ARRAY(Text)), bindparam("types", type_=ARRAY(Text)))
# By user, for which there is an index with the time. What an administrator has deleted is not found.
_LEFT = text("""
SELECT aggregate_id, max(timestamp) AS at, bool_or(event_type = 'PROPERTY_DELETED') AS deleted
FROM user_history.event_store
WHERE user_id = ANY(:owners) AND timestamp >= :since
  AND (event_type = 'PROPERTY_DELETED'
    OR event_type = 'PROPERTY_STATUS_CHANGED' AND event_data->>'status' = ANY(:statuses))
GROUP BY aggregate_id ORDER BY at DESC LIMIT :most
""").bindparams(bindparam("owners", type_=ARRAY(Text)), bindparam("statuses", type_=ARRAY(Text)))
_LAST = text("""
SELECT DISTINCT ON (aggregate_id) aggregate_id, event_data
FROM user_history.event_store
WHERE tenant_id = :tenant_id AND aggregate_id = ANY(:ids) AND version > 0 AND event_type = ANY(:types)
ORDER BY aggregate_id, version DESC
""").bindparams(bindparam("ids", type_=ARRAY(Text)), bindparam("types", type_=ARRAY(Text)))
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
    """The last change of any listing of the tenant that the read model had at the last round."""
    unread_mails: tuple[datetime, ...]
    """When those mails were sent, one after the other, that were not read when the last of them was sent."""

    @property
    def changed_since(self) -> datetime:
        """From when on the next round looks at changes."""
        since = self.search.since
        return max(since, self.checkpoint - OVERLAP) if self.checkpoint else since


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
        select(
            *SAVED_SEARCH_STATE, *(saved_filters.c[name] for name in ("last_round_at", "checkpoint", "unread_mails"))
        )
        .join(users, users.c.user_id == saved_filters.c.user_id)
        .where(saved_filters.c.saved_search_id == saved_search_id, saved_filters.c.paused.is_(None))
        .where(users.c.status.in_(list(MAY_SIGN_IN)))
    )
    row = (await connection.execute(query)).mappings().one_or_none()
    if row is None:
        return None
    return ActiveSavedSearch(
        saved_search_of_row(row), row["last_round_at"], row["checkpoint"], tuple(row["unread_mails"])
    )


async def record_round(
    connection: AsyncConnection,
    active: ActiveSavedSearch,
    at: datetime,
    due_at: datetime,
    checkpoint: datetime | None,
    unread_mails: Sequence[datetime],
) -> bool:
    """Record that a round is done; False when it was done before, or its search has changed in the meantime.

    Of too many unread mails the first is kept, because the pause depends on its age, and the newest.
    """
    c = saved_filters.c
    kept = [*unread_mails[:1], *unread_mails[1:][1 - MAX_UNREAD_MAILS :]]
    done = (
        update(saved_filters)
        .where(c.saved_search_id == active.search.id, c.version == active.search.version)
        .where(or_(c.last_round_at.is_(None), c.last_round_at < at))
        .values(last_round_at=at, due_at=due_at, checkpoint=checkpoint, unread_mails=kept)
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


async def steps_of(
    connection: AsyncConnection, tenant_id: str, property_ids: Sequence[UUID]
) -> dict[UUID, tuple[Step, ...]]:
    """Status and price of listings after each of their events."""
    wanted = {"tenant_id": tenant_id, "ids": [str(id) for id in property_ids], "types": list(_WHOLE)}
    found: dict[UUID, list[Step]] = {}
    for row in await connection.execute(_STEPS, wanted):
        # Events of the seven services may have no status, and prices as decimals.
        step = Step(row.timestamp, row.status or PropertyStatus.ACTIVE.value, round(float(row.price)))
        found.setdefault(UUID(row.aggregate_id), []).append(step)
    return {id: tuple(steps) for id, steps in found.items()}


async def gone_of(connection: AsyncConnection, tenant_id: str, owners: Collection[str], since: datetime) -> list[Gone]:
    """The listings that owners have deleted or withdrawn since `since`; not those that are sold or let, or a draft."""
    wanted = {"owners": list(owners), "since": since, "statuses": sorted(_GONE), "most": _MAX_GONE}
    left = {row.aggregate_id: row for row in await connection.execute(_LEFT, wanted)} if owners else {}
    if not left:
        return []
    last = await connection.execute(_LAST, {"tenant_id": tenant_id, "ids": list(left), "types": list(_WHOLE)})
    gone = []
    for row in last:
        facts, ending = row.event_data, left[row.aggregate_id]
        status = facts.get("status", PropertyStatus.ACTIVE)
        if status in _GONE or (ending.deleted and status == PropertyStatus.ACTIVE):
            listed_at = datetime.fromisoformat(facts["listedAt"]) if facts.get("listedAt") else _LONG_AGO
            likeness, price = likeness_of(facts, str(facts["ownerId"])), round(float(facts["price"]))
            gone.append(Gone(UUID(row.aggregate_id), likeness, price, listed_at, ending.at))
    return gone


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

    tenant_id: str
    saved_search_id: UUID
    user_id: UUID


async def overdue(connection: AsyncConnection, now: datetime, after: timedelta, limit: int) -> list[Due]:
    """Saved searches of every tenant whose round was due `after` ago, oldest first."""
    c = saved_filters.c
    of_user = and_(users.c.tenant_id == c.tenant_id, users.c.user_id == c.user_id)
    query = (
        select(c.tenant_id, c.saved_search_id, c.user_id)
        .join(users, of_user)
        .where(c.paused.is_(None), c.due_at < now - after, users.c.status.in_(list(MAY_SIGN_IN)))
        .order_by(c.due_at)
        .limit(limit)
    )
    return [Due(*row) for row in await connection.execute(query)]
