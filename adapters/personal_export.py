"""Everything that the platform keeps of a person for them to see, as lines of JSON with plain values.

A line is `{"kind": ..., "data": ...}`. Passwords, keys and tokens are not part of it: nobody needs to read them.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from pydantic.alias_generators import to_camel
from sqlalchemy import Column, ColumnElement, Table, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters import event_store
from adapters.current_state import find_user
from adapters.postgres import Database
from adapters.preferences import preferences_of
from adapters.sealing import Keyring
from adapters.tables import (
    documents,
    favorites,
    imports,
    notifications,
    passkeys,
    person_keys,
    properties,
    property_images,
    push_subscriptions,
    read_models,
    saved_filters,
    search_history,
    sessions,
    uploads,
)
from domain.activity import activity_of
from domain.events import UnreadableEvent, read_event

_PAGE = 500
"""Rows of one statement: some 10 ms, between which others use the connection."""


@dataclass(frozen=True)
class _Rows:
    """The rows of a person in one table, newest first."""

    kind: str
    table: Table
    owner: Column[Any]
    place: tuple[Column[Any], Column[Any]]
    """Time and id: what the rows are ordered by."""
    columns: Sequence[str]
    where: Sequence[ColumnElement[bool]] = ()


def _serving(table: Table, name: str) -> ColumnElement[bool]:
    serving = select(read_models.c.generation).where(read_models.c.name == name).scalar_subquery()
    return table.c.generation == serving


_TABLES = (
    _Rows(
        "session",
        sessions,
        sessions.c.user_id,
        (sessions.c.opened_at, sessions.c.session_id),
        ("session_id", "opened_at", "last_seen_at", "revoked_at", "device", "second_factor"),
    ),
    _Rows(
        "passkey",
        passkeys,
        passkeys.c.user_id,
        (passkeys.c.created_at, passkeys.c.passkey_id),
        ("passkey_id", "name", "created_at", "last_used_at"),
    ),
    _Rows(
        "pushSubscription",
        push_subscriptions,
        push_subscriptions.c.user_id,
        (push_subscriptions.c.created_at, push_subscriptions.c.subscription_id),
        ("subscription_id", "endpoint", "created_at"),
    ),
    _Rows(
        "listing",
        properties,
        properties.c.owner_id,
        (properties.c.created_at, properties.c.property_id),
        [column.name for column in properties.c if column.name not in {"tenant_id", "owner_id", "place_key"}],
    ),
    _Rows(
        "image",
        property_images,
        properties.c.owner_id,
        (property_images.c.added_at, property_images.c.image_id),
        ("image_id", "property_id", "status", "caption", "size", "width", "height", "refused", "added_at"),
    ),
    _Rows(
        "document",
        documents,
        documents.c.owner_id,
        (documents.c.created_at, documents.c.file_id),
        ("file_id", "file_name", "status", "media_type", "size", "property_id", "refused", "created_at"),
    ),
    _Rows(
        "upload",
        uploads,
        uploads.c.user_id,
        (uploads.c.created_at, uploads.c.upload_id),
        ("upload_id", "file_name", "media_type", "size", "property_id", "created_at", "completed_at"),
    ),
    _Rows(
        "favorite",
        favorites,
        favorites.c.user_id,
        (favorites.c.changed_at, favorites.c.property_id),
        ("property_id", "title", "location", "changed_at"),
        (favorites.c.is_favorite,),
    ),
    _Rows(
        "notification",
        notifications,
        notifications.c.user_id,
        (notifications.c.created_at, notifications.c.notification_id),
        ("notification_id", "kind", "data", "created_at", "read_at"),
        # The condition of the index, in its words; an empty kind has not arrived yet.
        (_serving(notifications, "notifications"), notifications.c.kind.is_not(None), notifications.c.kind != ""),
    ),
    _Rows(
        "savedSearch",
        saved_filters,
        saved_filters.c.user_id,
        (saved_filters.c.created_at, saved_filters.c.saved_search_id),
        ("saved_search_id", "name", "filters", "frequency", "hour", "weekday", "paused", "created_at", "updated_at"),
    ),
    _Rows(
        "import",
        imports,
        imports.c.user_id,
        (imports.c.started_at, imports.c.import_id),
        (
            "import_id",
            "file_name",
            "status",
            "row",
            "saved",
            "updated",
            "unchanged",
            "refused",
            "started_at",
            "finished_at",
        ),
    ),
    _Rows(
        "search",
        search_history,
        search_history.c.user_id,
        (search_history.c.searched_at, search_history.c.search_id),
        ("search_id", "event_id", "query", "total", "searched_at"),
        (_serving(search_history, "search_history"), search_history.c.searched_at.is_not(None)),
    ),
)


async def lines_of(database: Database, keyring: Keyring, tenant_id: str, user_id: UUID) -> AsyncIterator[list[bytes]]:
    """The lines of a person, some at a time; none if they are erased. Raises DatabaseUnavailable.

    Each page is a statement of its own, so that a long export holds no transaction open.
    """
    async with database.statements(tenant_id) as connection:
        user = await find_user(connection, user_id)
        key = await _wrapped_key(connection, user_id)
        if user is None or key is None:
            return
        preferences = (await preferences_of(connection, [user_id]))[user_id]
    yield [
        _line("account", orjson.Fragment(user.model_dump_json(by_alias=True))),
        _line("preferences", orjson.Fragment(preferences.model_dump_json(by_alias=True))),
    ]
    for rows in _TABLES:
        last: tuple[datetime, UUID] | None = None
        while True:
            async with database.statements(tenant_id) as connection:
                page = await _page(connection, rows, user_id, last)
            if not page:
                break
            yield [_line(rows.kind, _plain(rows, row, keyring, key)) for row in page]
            last = page[-1][rows.place[0].name], page[-1][rows.place[1].name]
    async for lines in _history(database, tenant_id, user_id):
        yield lines


async def _page(
    connection: AsyncConnection, rows: _Rows, user_id: UUID, last: tuple[datetime, UUID] | None
) -> list[dict[str, Any]]:
    query = select(*(rows.table.c[name] for name in rows.columns)).where(rows.owner == user_id, *rows.where)
    if rows.table is property_images:  # of the listings of the person
        query = query.join(properties, properties.c.property_id == property_images.c.property_id)
    if last:
        query = query.where(tuple_(*rows.place) < tuple_(*last))
    newest_first = query.order_by(*(column.desc() for column in rows.place)).limit(_PAGE)
    return [dict(row) for row in (await connection.execute(newest_first)).mappings()]


def _plain(rows: _Rows, row: dict[str, Any], keyring: Keyring, key: bytes) -> dict[str, Any]:
    """A row with its names in camelCase, and what was asked in a search as it was."""
    if rows.table is search_history:
        asked = keyring.unseal({"query": row.pop("query")}, key, row.pop("event_id"))["query"]
        row["filters"] = orjson.Fragment(asked)
    return {str(to_camel(name)): value for name, value in row.items()}  # names of columns are a class of their own


async def _history(database: Database, tenant_id: str, user_id: UUID) -> AsyncIterator[list[bytes]]:
    """The history, from the event store: it has every entry, also while the projection is late."""
    last: tuple[datetime, UUID] | None = None
    while True:
        async with database.statements(tenant_id) as connection:
            events = await event_store.of_user(connection, user_id, cursor=last, limit=_PAGE)
        if not events:
            return
        yield [line for event in events if (line := _entry(event))]
        last = datetime.fromisoformat(events[-1]["timestamp"]), UUID(events[-1]["eventId"])


def _entry(event: dict[str, Any]) -> bytes | None:
    """The entry of an event; None for one that is no activity, or that only another release can read."""
    try:
        activity = activity_of(read_event(event))
    except UnreadableEvent:
        return None
    if activity is None:
        return None
    return _line("activity", orjson.Fragment(activity.model_dump_json(by_alias=True, exclude={"tenant_id", "user_id"})))


def _line(kind: str, data: Any) -> bytes:
    # `default`, because asyncpg's UUID is a class of its own.
    return orjson.dumps({"kind": kind, "data": data}, default=str, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z)


async def _wrapped_key(connection: AsyncConnection, user_id: UUID) -> bytes | None:
    key: bytes | None = (
        await connection.execute(select(person_keys.c.wrapped_key).where(person_keys.c.user_id == user_id))
    ).scalar_one_or_none()
    return key
