"""The query of a user's search history. It decrypts what was asked, which nobody but that user is shown."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, Uuid, any_, bindparam, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters import event_store
from adapters.paging import Cursor
from adapters.postgres import Database
from adapters.sealing import Keyring
from adapters.tables import person_keys, read_models, search_history
from domain.events import UnreadableEvent, read_event
from domain.observations import SearchHistoryDeleted
from domain.search import SearchFilters
from domain.search_history import recalled
from projections.search_history import SearchHistory

_LATEST_EVENTS = 500
"""Newest events of a user among which a page looks for deletions that the projection may not have yet."""
_SERVING = select(read_models.c.generation).where(read_models.c.name == SearchHistory.name).scalar_subquery()
_SEARCHES = select(
    search_history.c.search_id,
    search_history.c.event_id,
    search_history.c.query,
    search_history.c.total,
    search_history.c.searched_at,
).where(
    search_history.c.user_id == bindparam("user_id"),
    search_history.c.generation == _SERVING,
    search_history.c.searched_at.is_not(None),
)
_NEWEST_FIRST = (search_history.c.searched_at.desc(), search_history.c.search_id.desc())
_SOME = _SEARCHES.where(search_history.c.search_id == any_(bindparam("search_ids", type_=ARRAY(Uuid))))
_KEY = select(person_keys.c.wrapped_key).where(person_keys.c.user_id == bindparam("user_id"))


@dataclass(frozen=True)
class PastSearch:
    """A search of a user, when they made it last, and how many listings it found then."""

    id: UUID
    filters: SearchFilters
    total: int | None
    searched_at: datetime


@dataclass(frozen=True)
class PastSearchPage:
    """Searches, the newest first, and the cursor of the next page; None on the last page."""

    searches: list[PastSearch]
    next: Cursor | None


class PastSearches:
    """The query. Searches that this release cannot ask are left out."""

    def __init__(self, database: Database, keyring: Keyring) -> None:
        self._database = database
        self._keyring = keyring

    async def page(
        self, tenant_id: str, user_id: UUID, limit: int, cursor: Cursor | None = None, *, reads_deletions: bool = False
    ) -> PastSearchPage:
        """Up to `limit` searches, newest first, older than `cursor`. Raises DatabaseUnavailable.

        `reads_deletions` leaves out what the user has just deleted, also while the projection is late.
        """
        query = _SEARCHES.order_by(*_NEWEST_FIRST).limit(limit + 1)
        if cursor:
            place = tuple_(search_history.c.searched_at, search_history.c.search_id)
            query = query.where(place < tuple_(cursor.timestamp, cursor.id))
        async with self._database.statements(tenant_id) as connection:
            rows = list(await connection.execute(query, {"user_id": user_id}))
            key = await _wrapped_key(connection, user_id)
            deletions = await _latest_deletions(connection, user_id) if reads_deletions else []
        last = rows[limit - 1] if len(rows) > limit else None
        shown = [row for row in rows[:limit] if not any(_deletes(one, row) for one in deletions)]
        return PastSearchPage(self._opened(shown, key), Cursor(last.searched_at, last.search_id) if last else None)

    async def some(self, tenant_id: str, user_id: UUID, search_ids: Collection[UUID]) -> dict[UUID, PastSearch]:
        """Those of the searches that the user has not deleted, by id. Raises DatabaseUnavailable."""
        if not search_ids:
            return {}
        async with self._database.statements(tenant_id) as connection:
            which = {"user_id": user_id, "search_ids": list(search_ids)}
            rows = list(await connection.execute(_SOME, which))
            key = await _wrapped_key(connection, user_id)
        return {search.id: search for search in self._opened(rows, key)}

    def _opened(self, rows: Iterable[Any], key: bytes | None) -> list[PastSearch]:
        searches = []
        for row in rows:
            asked = self._keyring.unseal({"query": row.query}, key, row.event_id)["query"]
            filters = recalled(asked) if asked else None  # without a key, the person was erased
            if filters:
                searches.append(PastSearch(row.search_id, filters, row.total, row.searched_at))
        return searches


async def _wrapped_key(connection: AsyncConnection, user_id: UUID) -> bytes | None:
    return (await connection.execute(_KEY, {"user_id": user_id})).scalar_one_or_none()


async def _latest_deletions(connection: AsyncConnection, user_id: UUID) -> Sequence[SearchHistoryDeleted]:
    latest = await event_store.of_user(connection, user_id, cursor=None, limit=_LATEST_EVENTS)
    return [fact for message in latest if (fact := _deletion(message))]


def _deletion(message: dict[str, Any]) -> SearchHistoryDeleted | None:
    if message["eventType"] != "SEARCH_HISTORY_DELETED":
        return None
    try:
        fact = read_event(message).data
    except UnreadableEvent:
        return None
    return fact if isinstance(fact, SearchHistoryDeleted) else None


def _deletes(deletion: SearchHistoryDeleted, row: Any) -> bool:
    is_meant = deletion.search_id is None or deletion.search_id == row.search_id
    return is_meant and bool(row.searched_at <= deletion.up_to)
