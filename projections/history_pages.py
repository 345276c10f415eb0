"""The query of a user's history: pages from Redis, else `user_activity`, else the event store.

A cursor is the time and the id of an entry, whatever the page is read from, so that a page from Postgres goes on where
one from Redis has ended, and entries that are added meanwhile are above both.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, cast
from uuid import UUID

from redis.asyncio import Redis

from adapters import event_store
from adapters.paging import Cursor
from adapters.postgres import Database, DatabaseUnavailable
from adapters.redis import AutoPipeline, CircuitBreaker, RedisError
from adapters.telemetry import EVENTS_UNREADABLE
from domain.activity import Activity, activity_of
from domain.events import UnreadableEvent, read_event
from projections.generations import ServingGeneration
from projections.history import ID_PLACE, MAX_CACHED, History, cache_keys_of, cursor_of, entry_json
from projections.history_rows import EVERYTHING, Wanted, has_row, rows_of

log = logging.getLogger(__name__)

_CACHE_TTL_SECONDS = 86_400
"""A set that was filled a day ago expires, and the next read fills it from Postgres."""
_LEASE_SECONDS = 10
_MAX_TIES = 16
"""Entries with the timestamp of the cursor that a page may have to skip: several commands may have the same time."""
_POLL_SECONDS = 0.01
_LATEST_EVENTS = 500
"""Newest events of a user among which a page of some types looks for entries that the projection does not have yet."""
_WARM_ATTEMPTS = 3
"""An entry that comes while a set is filled has it filled again."""
_END = b""
"""The member of a set that is the end of the history."""

_FILL = """
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1], KEYS[2])
for i = 3, #ARGV, 200 do redis.call('ZADD', KEYS[1], unpack(ARGV, i, math.min(i + 199, #ARGV))) end
redis.call('EXPIRE', KEYS[1], ARGV[2])
return 1
"""


@dataclass(frozen=True)
class Page:
    """Entries as JSON bytes, and the cursor of the next page; None on the last page."""

    entries: list[bytes]
    next: Cursor | None

    def contains(self, event_id: UUID) -> bool:
        wanted = str(event_id).encode()
        return any(entry[ID_PLACE] == wanted for entry in self.entries)


class HistoryPages:
    """The query."""

    def __init__(self, database: Database, redis: Redis, wait_seconds: float) -> None:
        self._database = database
        self._redis = redis
        self._pipeline = AutoPipeline(redis)
        self._wait_seconds = wait_seconds
        self._fill = redis.register_script(_FILL)
        self._breaker = CircuitBreaker()
        self._serving = ServingGeneration(database, History.name)

    async def page(
        self,
        tenant_id: str,
        user_id: str,
        limit: int,
        cursor: Cursor | None = None,
        must_contain: Cursor | None = None,
        wanted: Wanted = EVERYTHING,
    ) -> Page:
        """Up to `limit` of the wanted entries, newest first, older than `cursor`.

        `must_contain` is an entry that the history must have (read-your-writes): the query waits for it, and after
        `wait_seconds` reads the event store, which has every acknowledged write.

        Raises DatabaseUnavailable when neither Redis nor Postgres can answer.
        """
        if cursor:
            wanted = replace(wanted, before=min(cursor, wanted.before) if wanted.before else cursor)
        deadline = time.monotonic() + self._wait_seconds
        if wanted.types:
            return await self._of_types(tenant_id, user_id, limit, wanted, must_contain, deadline)
        while True:
            generation = await self._serving.get(tenant_id)
            page = await self._from_redis(tenant_id, user_id, generation, limit, wanted)
            if page is None:
                page = await self._from_postgres(tenant_id, user_id, generation, limit, wanted)
            if must_contain is None or page.contains(must_contain.id) or not _belongs_on(page, wanted, must_contain):
                return page
            if time.monotonic() >= deadline:
                return await self._from_store(tenant_id, user_id, limit, wanted)
            await asyncio.sleep(_POLL_SECONDS)

    async def warm(self, tenant_id: str, user_id: str) -> None:
        """Cache a user's newest entries, so that the first page of a session is one Redis command; raises no error."""
        try:
            for _ in range(_WARM_ATTEMPTS):
                if await self._refill(tenant_id, user_id, await self._serving.get(tenant_id)):
                    return
        except DatabaseUnavailable as error:
            log.warning("a history is not cached at sign-in: %s", error)

    async def _from_redis(
        self, tenant_id: str, user_id: str, generation: int, limit: int, wanted: Wanted
    ) -> Page | None:
        """None when Redis is unavailable or does not have the user's whole page."""
        if self._breaker.is_open:
            return None
        key = cache_keys_of(tenant_id, user_id, generation)[0]
        try:
            if wanted.before is None:
                entries: list[bytes] = await self._pipeline.execute("ZRANGE", key, 0, limit, "REV")
            else:
                entries = await self._older(key, wanted.before, limit)
        except RedisError:
            self._breaker.trip()
            return None
        if wanted.since:
            entries = _ended(entries, wanted.since)
        if entries and entries[-1] == _END:
            return Page(entries[:-1], None) if len(entries) <= limit + 1 else _page(entries, limit)
        return _page(entries, limit) if len(entries) > limit else None

    async def _older(self, key: str, cursor: Cursor, limit: int) -> list[bytes]:
        found = await self._redis.zrange(
            key,
            str(cursor.score),
            "-inf",
            desc=True,
            byscore=True,
            offset=0,
            num=limit + 1 + _MAX_TIES,
            withscores=True,
        )
        edge = str(cursor.id).encode()
        scored = cast(list[tuple[bytes, float]], found)
        older = [entry for entry, score in scored if score < cursor.score or entry[ID_PLACE] < edge]
        return older[: limit + 1]

    async def _from_postgres(self, tenant_id: str, user_id: str, generation: int, limit: int, wanted: Wanted) -> Page:
        await self._refill(tenant_id, user_id, generation)
        async with self._database.statements(tenant_id) as connection:
            serving, entries = await rows_of(connection, user_id, limit + 1, wanted)
        self._serving.update(serving)
        return _page(entries, limit)

    async def _of_types(
        self,
        tenant_id: str,
        user_id: str,
        limit: int,
        wanted: Wanted,
        must_contain: Cursor | None,
        deadline: float,
    ) -> Page:
        """A page of some types, which may be rare: among a million entries an index finds them, and Redis does not."""
        while must_contain:
            async with self._database.statements(tenant_id) as connection:
                if await has_row(connection, must_contain.id):
                    break
            if time.monotonic() >= deadline:
                return await self._merged(tenant_id, user_id, limit, wanted)
            await asyncio.sleep(_POLL_SECONDS)
        async with self._database.statements(tenant_id) as connection:
            _, entries = await rows_of(connection, user_id, limit + 1, wanted)
        return _page(entries, limit)

    async def _merged(self, tenant_id: str, user_id: str, limit: int, wanted: Wanted) -> Page:
        """A page of some types from Postgres, and from the user's latest events, which the projection may not have."""
        older_than = (wanted.before.timestamp, wanted.before.id) if wanted.before else None
        async with self._database.statements(tenant_id) as connection:
            _, entries = await rows_of(connection, user_id, limit + 1, wanted)
            latest = await event_store.of_user(connection, UUID(user_id), cursor=older_than, limit=_LATEST_EVENTS)
        merged = {cursor_of(entry): entry for entry in entries}
        for activity in readable(latest, where="history"):
            if activity.activity_type in wanted.types and not (wanted.since and activity.timestamp < wanted.since):
                merged[Cursor(activity.timestamp, activity.event_id)] = entry_json(activity)
        return _page([merged[place] for place in sorted(merged, reverse=True)[: limit + 1]], limit)

    async def _refill(self, tenant_id: str, user_id: str, generation: int) -> bool:
        """Cache this user's newest entries in Redis; False if one was added meanwhile, so that they are not cached."""
        if self._breaker.is_open:
            return True
        keys, lease = cache_keys_of(tenant_id, user_id, generation), secrets.token_hex(8)
        try:
            if await self._redis.exists(keys[0]):
                return True
            await self._redis.set(keys[1], lease, ex=_LEASE_SECONDS)
            async with self._database.statements(tenant_id) as connection:
                serving, rows = await rows_of(connection, user_id, MAX_CACHED + 1)
            if serving != generation:
                return False  # a rebuild has switched: the rows are of a generation that the lease does not cover
            pairs: list[str | bytes] = [] if len(rows) > MAX_CACHED else ["-inf", _END]
            for entry in rows[:MAX_CACHED]:
                pairs += [str(cursor_of(entry).score), entry]
            return bool(await self._fill(keys=keys, args=[lease, _CACHE_TTL_SECONDS, *pairs]))
        except RedisError:
            self._breaker.trip()
            return True

    async def _from_store(self, tenant_id: str, user_id: str, limit: int, wanted: Wanted) -> Page:
        """A page read from the event store; unreadable events are skipped, so it may be shorter than `limit`."""
        older_than = (wanted.before.timestamp, wanted.before.id) if wanted.before else None
        async with self._database.statements(tenant_id) as connection:
            messages = await event_store.of_user(connection, UUID(user_id), cursor=older_than, limit=limit + 1)
        if wanted.since:
            # Each has a time: `of_user` leaves out those that Python cannot decode.
            messages = [one for one in messages if datetime.fromisoformat(one["timestamp"]) >= wanted.since]
        entries = [entry_json(activity) for activity in readable(messages[:limit], where="history")]
        if len(messages) <= limit:
            return Page(entries, None)
        last = messages[limit - 1]
        return Page(entries, Cursor(datetime.fromisoformat(last["timestamp"]), UUID(last["eventId"])))


def readable(messages: Sequence[dict[str, Any]], *, where: str) -> list[Activity]:
    """The activities of stored events, without those of anonymous users, which have none.

    Events that this release cannot read are skipped, logged and counted under `where`.
    """
    activities = []
    for message in messages:
        try:
            activity = activity_of(read_event(message))
        except UnreadableEvent as error:
            EVENTS_UNREADABLE.labels(where).inc()
            log.error("%s: skipped unreadable event %s: %s", where, message["eventId"], error)
            continue
        if activity:
            activities.append(activity)
    return activities


def _belongs_on(page: Page, wanted: Wanted, entry: Cursor) -> bool:
    """Whether a complete page would contain the entry: it is between the page's cursor and the next one."""
    if (wanted.before and entry >= wanted.before) or (wanted.since and entry.timestamp < wanted.since):
        return False
    return page.next is None or entry > page.next


def _ended(entries: list[bytes], since: datetime) -> list[bytes]:
    """The entries up to the first that is older than `since`, where the page ends as it does with the history."""
    for n, entry in enumerate(entries):
        if entry == _END or cursor_of(entry).timestamp < since:
            return [*entries[:n], _END]
    return entries


def _page(entries: list[bytes], limit: int) -> Page:
    shown = entries[:limit]
    return Page(shown, cursor_of(shown[-1]) if len(entries) > limit else None)
