"""Search history: the searches of each user, each once with the newest time, and what was deleted of them.

`search.search_history` has a row for each search of a user, and one with the nil UUID for all of them. A deletion is a
time up to which searches are gone; a row keeps it, so that an older search that comes later stays deleted. What was
asked is encrypted with the person's key, as in the event: the query, in `past_searches`, decrypts it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import ARRAY, DateTime, Integer, Text, Uuid, bindparam, delete, text
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.erasures import erased_among
from adapters.tables import search_history
from domain import fields as f
from domain.events import USER_EVENTS, Event, read_event
from domain.observations import PropertySearched, SearchHistoryDeleted
from projections.projection import Projection, parsed

_TYPES = {"PROPERTY_SEARCHED", "SEARCH_HISTORY_DELETED", "USER_DELETED"}
ALL_SEARCHES = UUID(int=0)
"""The id of the row with the time up to which a user has deleted all searches."""

# The row of all searches comes first and is always written: its lock serializes the transactions of a user, so that a
# deletion sees every search that was applied.
_APPLY = text("""
    INSERT INTO search.search_history AS known
        (tenant_id, generation, user_id, search_id, event_id, query, total, searched_at, deleted_until)
    SELECT tenant_id, :generation, user_id, search_id, event_id, CAST(query AS jsonb), total, searched_at, deleted_until
    FROM unnest(:tenant_ids, :user_ids, :search_ids, :event_ids, :queries, :totals, :searched, :deleted)
        WITH ORDINALITY
        AS event (tenant_id, user_id, search_id, event_id, query, total, searched_at, deleted_until, n)
    ORDER BY n
    ON CONFLICT (user_id, generation, search_id, tenant_id) DO UPDATE
        SET (event_id, query, total, searched_at) = (
                SELECT newest.* FROM (VALUES
                    (known.event_id, known.query, known.total, known.searched_at),
                    (excluded.event_id, excluded.query, excluded.total, excluded.searched_at)
                ) AS newest (event_id, query, total, searched_at)
                ORDER BY searched_at DESC NULLS LAST, event_id DESC LIMIT 1
            ),
            deleted_until = greatest(known.deleted_until, excluded.deleted_until)
""").bindparams(
    bindparam("generation", type_=Integer),
    bindparam("tenant_ids", type_=ARRAY(Text)),
    bindparam("user_ids", type_=ARRAY(Uuid)),
    bindparam("search_ids", type_=ARRAY(Uuid)),
    bindparam("event_ids", type_=ARRAY(Uuid)),
    bindparam("queries", type_=ARRAY(Text)),
    bindparam("totals", type_=ARRAY(Integer)),
    bindparam("searched", type_=ARRAY(DateTime(timezone=True))),
    bindparam("deleted", type_=ARRAY(DateTime(timezone=True))),
)
_DELETED = """
    UPDATE search.search_history AS search
    SET event_id = NULL, query = NULL, total = NULL, searched_at = NULL
    FROM search.search_history AS whole, {changed}
    WHERE whole.tenant_id = search.tenant_id AND whole.user_id = search.user_id
        AND whole.generation = :generation AND whole.search_id = :all_searches
        AND search.generation = :generation AND search.user_id = changed.user_id
        AND search.searched_at <= greatest(search.deleted_until, whole.deleted_until)
"""
_BINDS = (
    bindparam("generation", type_=Integer),
    bindparam("all_searches", type_=Uuid),
    bindparam("user_ids", type_=ARRAY(Uuid)),
)
_EMPTY_OF_BATCH = text(
    _DELETED.format(changed="unnest(:user_ids, :search_ids) AS changed (user_id, search_id)")
    + " AND search.search_id = changed.search_id"
).bindparams(*_BINDS, bindparam("search_ids", type_=ARRAY(Uuid)))
_EMPTY_OF_USERS = text(_DELETED.format(changed="unnest(:user_ids) AS changed (user_id)")).bindparams(*_BINDS)


@dataclass(frozen=True)
class _Row:
    """What the events of one batch say of a search."""

    tenant_id: str
    user_id: UUID
    search_id: UUID
    event_id: UUID | None = None
    query: str | None = None
    total: int | None = None
    searched_at: datetime | None = None
    deleted_until: datetime | None = None

    @property
    def key(self) -> tuple[str, int, int]:
        return self.tenant_id, self.user_id.int, self.search_id.int

    def with_(self, other: "_Row") -> "_Row":
        searched = [row for row in (self, other) if row.searched_at and row.event_id]
        newest = max(searched, key=lambda row: (row.searched_at, row.event_id), default=self)
        times = [row.deleted_until for row in (self, other) if row.deleted_until]
        return replace(newest, deleted_until=max(times, default=None))


class SearchHistory(Projection[Event]):
    """The projection. It has no cache."""

    name = "search_history"
    topics = (USER_EVENTS,)
    tables = (search_history,)

    def read(self, topic: str, value: bytes) -> Event | None:
        """The event; None for a type that changes no search history. Raises UnreadableEvent with the reason."""
        message = parsed(value)
        return read_event(message) if message.get("eventType") in _TYPES else None

    def of_event(self, stored: dict[str, Any], event: Event) -> Event | None:
        """The event, if it changes a search history."""
        return event if event.event_type in _TYPES else None

    async def apply(self, tx: AsyncConnection, events: Sequence[Event], generation: int) -> None:
        """Keep the newest time of each search, and empty what was deleted. An erased user has no rows."""
        erased = await erased_among(tx, {(event.tenant_id, event.user_id) for event in events})
        for tenant_id, user_id in sorted(erased):
            of_user = search_history.c.tenant_id == tenant_id, search_history.c.user_id == user_id
            await tx.execute(delete(search_history).where(*of_user, search_history.c.generation == generation))
        rows: dict[tuple[str, int, int], _Row] = {}
        for event in events:
            if (event.tenant_id, event.user_id) in erased:
                continue
            for row in _rows(event):
                rows[row.key] = rows[row.key].with_(row) if row.key in rows else row
        if rows:
            ordered = [rows[key] for key in sorted(rows)]
            await tx.execute(_APPLY, _columns(ordered, generation))
            which = {"generation": generation, "all_searches": ALL_SEARCHES}
            # A user may have a hundred thousand others, of which nothing has changed unless all are deleted.
            keys = {"user_ids": [row.user_id for row in ordered], "search_ids": [row.search_id for row in ordered]}
            await tx.execute(_EMPTY_OF_BATCH, which | keys)
            cleared = sorted({row.user_id for row in ordered if row.search_id == ALL_SEARCHES and row.deleted_until})
            if cleared:
                await tx.execute(_EMPTY_OF_USERS, which | {"user_ids": cleared})


def _rows(event: Event) -> list[_Row]:
    """What an event says: of the search that it is about, and of all of them."""
    fact, of = event.data, (event.tenant_id, event.user_id)
    if isinstance(fact, PropertySearched):
        query = fact.query.model_dump() if isinstance(fact.query, f.Sealed) else fact.query
        asked = orjson.dumps(query).decode()
        return [_Row(*of, ALL_SEARCHES), _Row(*of, fact.search_id, event.event_id, asked, fact.total, event.timestamp)]
    if isinstance(fact, SearchHistoryDeleted):
        rows = [_Row(*of, fact.search_id or ALL_SEARCHES, deleted_until=fact.up_to)]
        return rows if fact.search_id is None else [_Row(*of, ALL_SEARCHES), *rows]
    return []


def _columns(rows: Sequence[_Row], generation: int) -> dict[str, Any]:
    return {
        "generation": generation,
        "tenant_ids": [row.tenant_id for row in rows],
        "user_ids": [row.user_id for row in rows],
        "search_ids": [row.search_id for row in rows],
        "event_ids": [row.event_id for row in rows],
        "queries": [row.query for row in rows],
        "totals": [row.total for row in rows],
        "searched": [row.searched_at for row in rows],
        "deleted": [row.deleted_until for row in rows],
    }
