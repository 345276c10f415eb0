"""Notifications: each user's inbox, and what they have read of it. The query that reads it is in `inbox`.

`notification.notifications` has a row for each notification, and `notification.read_until` the time up to which a user
has read all of theirs. A notification may be read before it arrives here: then its row has an empty kind until it does.
An erased user has read everything for ever, which keeps events away that come later.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import ARRAY, DateTime, Integer, Text, Uuid, bindparam, text
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.tables import notifications, read_until
from domain.events import USER_EVENTS, Event, read_event
from domain.observations import NotificationsRead, UserNotified
from domain.user_events import UserDeleted
from projections.projection import Projection, parsed

_TYPES = {"USER_NOTIFIED", "NOTIFICATIONS_READ", "USER_DELETED"}
NOT_ARRIVED = ""
"""The kind of a notification that was read before it arrived. Not NULL, so that the index of the page has the row."""
_ERASED = datetime(9999, 12, 31, tzinfo=UTC)
"""Up to when an erased user has read."""
_LOCKS = 7237005
"""Namespace of these advisory locks (the first of their two keys); the second is the generation."""

# Shared by those that insert, so that no row of a user is inserted while another transaction erases the user.
_LOCK_TO_INSERT = text("SELECT pg_advisory_xact_lock_shared(:locks, :generation)")
_LOCK_TO_ERASE = text("SELECT pg_advisory_xact_lock(:locks, :generation)")
_USERS = (
    bindparam("generation", type_=Integer),
    bindparam("tenant_ids", type_=ARRAY(Text)),
    bindparam("user_ids", type_=ARRAY(Uuid)),
)
_READ_UNTIL = text("""
    INSERT INTO notification.read_until AS known (tenant_id, generation, user_id, read_until)
    SELECT tenant_id, :generation, user_id, until
    FROM unnest(:tenant_ids, :user_ids, :untils) WITH ORDINALITY AS event (tenant_id, user_id, until, n)
    ORDER BY n
    ON CONFLICT (tenant_id, user_id, generation) DO UPDATE SET read_until = excluded.read_until
        WHERE excluded.read_until > known.read_until
""").bindparams(
    *_USERS,
    bindparam("untils", type_=ARRAY(DateTime(timezone=True))),
)
_ERASE = text("""
    DELETE FROM notification.notifications
    WHERE generation = :generation AND kind IS NOT NULL
        AND (tenant_id, user_id) IN (SELECT * FROM unnest(:tenant_ids, :user_ids))
""").bindparams(*_USERS)
_ADD = text("""
    INSERT INTO notification.notifications AS known
        (tenant_id, generation, notification_id, user_id, kind, data, created_at, read_at)
    SELECT tenant_id, :generation, notification_id, user_id, kind, CAST(data AS jsonb), created_at, read_at
    FROM unnest(:tenant_ids, :user_ids, :ids, :kinds, :data, :created, :read) WITH ORDINALITY
        AS event (tenant_id, user_id, notification_id, kind, data, created_at, read_at, n)
    WHERE NOT EXISTS (
        SELECT FROM notification.read_until AS erased
        WHERE erased.tenant_id = event.tenant_id AND erased.user_id = event.user_id
            AND erased.generation = :generation AND erased.read_until = :erased
    )
    ORDER BY n
    ON CONFLICT (tenant_id, notification_id, generation) DO UPDATE
        SET kind = CASE WHEN known.kind = '' THEN excluded.kind ELSE known.kind END,
            data = coalesce(known.data, excluded.data),
            created_at = coalesce(known.created_at, excluded.created_at),
            read_at = least(known.read_at, excluded.read_at)
        WHERE known.user_id = excluded.user_id AND (
            known.kind = '' AND excluded.kind <> ''
            OR excluded.read_at < coalesce(known.read_at, 'infinity')
        )
""").bindparams(
    *_USERS,
    bindparam("ids", type_=ARRAY(Uuid)),
    bindparam("kinds", type_=ARRAY(Text)),
    bindparam("data", type_=ARRAY(Text)),
    bindparam("created", type_=ARRAY(DateTime(timezone=True))),
    bindparam("read", type_=ARRAY(DateTime(timezone=True))),
    bindparam("erased", type_=DateTime(timezone=True)),
)

_User = tuple[str, UUID]
"""Tenant and user."""


@dataclass(frozen=True)
class _Row:
    """What the events of one batch say of a notification."""

    tenant_id: str
    id: UUID
    user_id: UUID
    kind: str = NOT_ARRIVED
    data: str | None = None
    created_at: datetime | None = None
    read_at: datetime | None = None

    def with_(self, other: "_Row") -> "_Row":
        arrived = self if self.kind != NOT_ARRIVED else other
        return replace(arrived, read_at=min(filter(None, (self.read_at, other.read_at)), default=None))


class Notifications(Projection[Event]):
    """The projection. It has no cache: an inbox is read seldom, compared with a history."""

    name = "notifications"
    topics = (USER_EVENTS,)
    tables = (notifications, read_until)

    def read(self, topic: str, value: bytes) -> Event | None:
        """The event; None for a type that changes no inbox. Raises UnreadableEvent with the reason."""
        message = parsed(value)
        return read_event(message) if message.get("eventType") in _TYPES else None

    def of_event(self, stored: dict[str, Any], event: Event) -> Event | None:
        """The event, if it changes an inbox."""
        return event if event.event_type in _TYPES else None

    async def apply(self, tx: AsyncConnection, events: Sequence[Event], generation: int) -> None:
        """Add notifications, keep the earliest time at which each was read, and erase those of erased users."""
        if not events:
            return
        rows: dict[tuple[str, int], _Row] = {}
        until: dict[_User, datetime] = {}
        erased: set[_User] = set()
        for event in events:
            user, fact = (event.tenant_id, event.data.user_id), event.data
            if isinstance(fact, UserDeleted):
                erased.add(user)
                until[user] = _ERASED
            elif isinstance(fact, NotificationsRead) and fact.up_to is not None:
                until[user] = max(until.get(user, fact.up_to), fact.up_to)
            if row := _row(event):
                key = (row.tenant_id, row.id.int)
                rows[key] = rows[key].with_(row) if key in rows else row
        await tx.execute(_LOCK_TO_ERASE if erased else _LOCK_TO_INSERT, {"locks": _LOCKS, "generation": generation})
        if until:
            users = sorted(until, key=lambda user: (user[0], user[1].int))
            await tx.execute(_READ_UNTIL, {**_columns(users, generation), "untils": [until[user] for user in users]})
        if erased:
            await tx.execute(_ERASE, _columns(sorted(erased), generation))
        if rows:
            await tx.execute(_ADD, _added([rows[key] for key in sorted(rows)], generation))


def _row(event: Event) -> _Row | None:
    """What an event says of one notification."""
    fact = event.data
    if isinstance(fact, UserNotified):
        about = {"propertyId": str(fact.property_id) if fact.property_id else None, "values": fact.values}
        about |= {"savedSearchId": str(fact.saved_search_id)} if fact.saved_search_id else {}
        data = orjson.dumps(about).decode()
        return _Row(event.tenant_id, event.event_id, fact.user_id, fact.kind, data, event.timestamp)
    if isinstance(fact, NotificationsRead) and fact.notification_id is not None:
        return _Row(event.tenant_id, fact.notification_id, fact.user_id, read_at=event.timestamp)
    return None


def _columns(users: Sequence[_User], generation: int) -> dict[str, Any]:
    return {
        "generation": generation,
        "tenant_ids": [tenant_id for tenant_id, _ in users],
        "user_ids": [user_id for _, user_id in users],
    }


def _added(rows: Sequence[_Row], generation: int) -> dict[str, Any]:
    return {
        **_columns([(row.tenant_id, row.user_id) for row in rows], generation),
        "ids": [row.id for row in rows],
        "kinds": [row.kind for row in rows],
        "data": [row.data for row in rows],
        "created": [row.created_at for row in rows],
        "read": [row.read_at for row in rows],
        "erased": _ERASED,
    }
