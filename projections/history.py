"""The user's history: from `user-activity` into Postgres for good and into Redis as ready bytes, and back out as pages.

Redis holds a sorted set for each user: the score is the time in microseconds, the member the entry's JSON. The lowest
member is an empty one while the set holds the whole history: so one command reads a page
and shows whether the history ends there.
"""

import asyncio
import logging
import secrets
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID

import orjson
from pydantic import ValidationError
from redis.asyncio import Redis
from sqlalchemy import select, true, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters import event_store
from adapters.postgres import Database
from adapters.redis import RedisError, Rest, Together
from adapters.tables import read_models, user_activity
from adapters.telemetry import EVENTS_UNREADABLE
from domain.activity import Activity, activity_of
from domain.events import USER_ACTIVITY, UnreadableEvent, read_event
from projections.generations import ServingGeneration
from projections.paging import Cursor
from projections.projection import CacheKey, Projection

log = logging.getLogger(__name__)

NEWEST = 1000
"""Entries kept in Redis for each user; older ones are read from Postgres."""
_KEPT_SECONDS = 86_400
"""A user who was not seen for a day is read from Postgres once."""
_LEASE_SECONDS = 10
_TIES = 16
"""Entries of one microsecond that a page may have to skip: events of different commands may have the same time."""
_LOOK_AGAIN_SECONDS = 0.01
_AT = b'"timestamp":"'
_ID = slice(len('{"eventId":"'), len('{"eventId":"') + 36)

# An absent set is filled by the next reader. The reader's lease is withdrawn, for what it read may lack this entry.
_ADD = """
if redis.call('EXISTS', KEYS[1]) == 0 then redis.call('DEL', KEYS[2]) return 0 end
redis.call('ZADD', KEYS[1], unpack(ARGV, 2))
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -2 - ARGV[1])
return 1
"""
_FILL = """
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1], KEYS[2])
for i = 3, #ARGV, 200 do redis.call('ZADD', KEYS[1], unpack(ARGV, i, math.min(i + 199, #ARGV))) end
redis.call('EXPIRE', KEYS[1], ARGV[2])
return 1
"""


@dataclass(frozen=True)
class Page:
    """Entries as JSON bytes, and the cursor of the next page, if there is one."""

    entries: list[bytes]
    next: Cursor | None

    def holds(self, event_id: UUID) -> bool:
        wanted = str(event_id).encode()
        return any(entry[_ID] == wanted for entry in self.entries)


def entry_json(activity: Activity) -> bytes:
    """An entry as the API answers it. The same activity gives the same bytes, and the event id comes first."""
    return orjson.dumps(
        {
            "eventId": str(activity.event_id),
            "userId": str(activity.user_id),
            "activityType": activity.activity_type,
            "description": activity.description,
            # Postgres returns the keys of JSONB in an order of its own.
            "activityData": orjson.Fragment(orjson.dumps(activity.activity_data, option=orjson.OPT_SORT_KEYS)),
            "timestamp": activity.timestamp.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        }
    )


def _keys(tenant_id: str, user_id: str, generation: int) -> list[str]:
    # The braces put both keys of a user on one node of a Redis cluster.
    name = f"{{{tenant_id}:{user_id}}}:history:{generation}"
    return [name, f"{name}:lease"]


def _cursor(activity: Activity) -> Cursor:
    return Cursor(activity.timestamp, activity.event_id)


class History(Projection[Activity]):
    """The projection: entries into Postgres, and into those sets that Redis holds."""

    name = "history"
    topics = (USER_ACTIVITY,)
    tables = (user_activity,)

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._add = redis.register_script(_ADD)

    def read(self, topic: str, value: bytes) -> Activity:
        """The activity in a message. Raises UnreadableEvent, saying why."""
        try:
            return Activity.model_validate_json(value)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise UnreadableEvent(f"{'.'.join(map(str, first['loc'])) or 'message'}: {first['msg']}") from error

    async def apply(self, tx: AsyncConnection, activities: Sequence[Activity], generation: int) -> None:
        """Write entries; those that are there already stay as they are."""
        rows = [
            {
                "tenant_id": activity.tenant_id,
                "generation": generation,
                "event_id": activity.event_id,
                "user_id": str(activity.user_id),
                "activity_type": activity.activity_type,
                "description": activity.description,
                "activity_data": activity.activity_data,
                "timestamp": activity.timestamp,
            }
            for activity in sorted(activities, key=lambda activity: activity.event_id.int)
        ]
        if rows:
            await tx.execute(insert(user_activity).on_conflict_do_nothing(), rows)

    async def update_cache(self, activities: Sequence[Activity], generation: int) -> None:
        """Add entries to the sets that Redis holds. Raises RedisError."""
        by_user: dict[tuple[str, str], list[str | bytes]] = defaultdict(list)
        for activity in activities:
            by_user[activity.tenant_id, str(activity.user_id)] += [str(_cursor(activity).score), entry_json(activity)]
        async with self._redis.pipeline(transaction=False) as pipe:
            for (tenant_id, user_id), entries in by_user.items():
                await self._add(keys=_keys(tenant_id, user_id, generation), args=[NEWEST, *entries], client=pipe)
            await pipe.execute()

    def cache_keys(self, activities: Sequence[Activity]) -> set[CacheKey]:
        """The users whose sets the entries belong to."""
        return {(activity.tenant_id, str(activity.user_id)) for activity in activities}

    async def drop_cached(self, users: set[CacheKey], generation: int) -> None:
        """Drop users' sets, so that the next reader fills them from Postgres. Raises RedisError."""
        keys = [key for tenant_id, user_id in users for key in _keys(tenant_id, user_id, generation)]
        if keys:
            await self._redis.unlink(*keys)


class HistoryPages:
    """The query: Redis first, then `user_activity`, then the event store itself."""

    def __init__(self, database: Database, redis: Redis, wait_seconds: float) -> None:
        self._database = database
        self._redis = redis
        self._together = Together(redis)
        self._wait_seconds = wait_seconds
        self._fill = redis.register_script(_FILL)
        self._rest = Rest()
        self._serving = ServingGeneration(database, History.name)

    async def page(
        self, tenant_id: str, user_id: str, limit: int, before: Cursor | None = None, holding: Cursor | None = None
    ) -> Page:
        """Up to `limit` entries, newest first, older than `before`.

        Raises DatabaseUnavailable when no source can answer.

        `holding` is an entry that the history must have: the read waits for it, and past the bound is answered by the
        event store, which had it before the write was acknowledged.
        """
        deadline = time.monotonic() + self._wait_seconds
        while True:
            generation = await self._serving.get(tenant_id)
            page = await self._from_redis(tenant_id, user_id, generation, limit, before)
            if page is None:
                page = await self._from_postgres(tenant_id, user_id, generation, limit, before)
            if holding is None or page.holds(holding.id) or not _must_show(page, before, holding):
                return page
            if time.monotonic() >= deadline:
                return await self._from_store(tenant_id, user_id, limit, before)
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)

    async def _from_redis(
        self, tenant_id: str, user_id: str, generation: int, limit: int, before: Cursor | None
    ) -> Page | None:
        """None when Redis is unavailable, does not hold this user, or does not reach as far back."""
        if self._rest:
            return None
        key = _keys(tenant_id, user_id, generation)[0]
        try:
            if before is None:
                entries: list[bytes] = await self._together.execute("ZRANGE", key, 0, limit, "REV")
            else:
                entries = await self._older(key, before, limit)
        except RedisError:
            self._rest.begin()
            return None
        if entries and entries[-1] == b"":
            return Page(entries[:-1], None) if len(entries) <= limit + 1 else _cut(entries, limit)
        return _cut(entries, limit) if len(entries) > limit else None

    async def _older(self, key: str, before: Cursor, limit: int) -> list[bytes]:
        found = await self._redis.zrange(
            key, str(before.score), "-inf", desc=True, byscore=True, offset=0, num=limit + 1 + _TIES, withscores=True
        )
        edge = str(before.id).encode()
        scored = cast(list[tuple[bytes, float]], found)
        older = [entry for entry, score in scored if score < before.score or entry[_ID] < edge]
        return older[: limit + 1]

    async def _from_postgres(
        self, tenant_id: str, user_id: str, generation: int, limit: int, before: Cursor | None
    ) -> Page:
        await self._refill(tenant_id, user_id, generation)
        async with self._database.statements(tenant_id) as connection:
            serving, entries = await _rows(connection, user_id, limit + 1, before)
        self._serving.seen(serving)
        return _cut(entries, limit)

    async def _refill(self, tenant_id: str, user_id: str, generation: int) -> None:
        """Give Redis this user's newest entries, unless one is added while they are being read."""
        if self._rest:
            return
        keys, lease = _keys(tenant_id, user_id, generation), secrets.token_hex(8)
        try:
            if await self._redis.exists(keys[0]):
                return
            await self._redis.set(keys[1], lease, ex=_LEASE_SECONDS)
            async with self._database.statements(tenant_id) as connection:
                serving, rows = await _rows(connection, user_id, NEWEST + 1, None)
            if serving != generation:
                return  # a rebuild has switched: these rows belong in a set that the lease does not cover
            pairs: list[str | bytes] = [] if len(rows) > NEWEST else ["-inf", b""]
            for entry in rows[:NEWEST]:
                pairs += [str(cursor_of(entry).score), entry]
            await self._fill(keys=keys, args=[lease, _KEPT_SECONDS, *pairs])
        except RedisError:
            self._rest.begin()

    async def _from_store(self, tenant_id: str, user_id: str, limit: int, before: Cursor | None) -> Page:
        """A page of the event store itself; it has fewer entries than `limit` where events are unreadable."""
        async with self._database.statements(tenant_id) as connection:
            older_than = (before.timestamp, before.id) if before else None
            messages = await event_store.of_user(connection, UUID(user_id), before=older_than, limit=limit + 1)
        entries = [entry_json(activity) for activity in readable(messages[:limit], where="history")]
        if len(messages) <= limit:
            return Page(entries, None)
        last = messages[limit - 1]
        return Page(entries, Cursor(datetime.fromisoformat(last["timestamp"]), UUID(last["eventId"])))


def readable(messages: Sequence[dict[str, Any]], *, where: str) -> list[Activity]:
    """The activities of stored events. Events that this release cannot read are skipped, logged and counted; those of
    nobody with an account are in no history.
    """
    activities = []
    for message in messages:
        try:
            activity = activity_of(read_event(message))
        except UnreadableEvent as error:
            EVENTS_UNREADABLE.labels(where).inc()
            log.error("%s: event %s is skipped, for it cannot be read: %s", where, message["eventId"], error)
            continue
        if activity:
            activities.append(activity)
    return activities


def _must_show(page: Page, before: Cursor | None, entry: Cursor) -> bool:
    """Whether a complete page would show the entry: it is neither newer nor older than the page's entries."""
    if before and entry >= before:
        return False
    return page.next is None or entry > page.next


def cursor_of(entry: bytes) -> Cursor:
    """Where an entry of `entry_json` stands: its id is the first field and its time the last."""
    at = entry[entry.rindex(_AT) + len(_AT) : -len('"}')]
    return Cursor(datetime.fromisoformat(at.decode()), UUID(entry[_ID].decode()))


def _cut(entries: list[bytes], limit: int) -> Page:
    shown = entries[:limit]
    return Page(shown, cursor_of(shown[-1]) if len(entries) > limit else None)


async def _rows(
    connection: AsyncConnection, user_id: str, limit: int, before: Cursor | None
) -> tuple[int, list[bytes]]:
    """The serving generation and a user's entries in it, newest first: by one statement, so that both fit together."""
    query = select(user_activity).where(
        user_activity.c.user_id == user_id, user_activity.c.generation == read_models.c.generation
    )
    if before:
        query = query.where(
            tuple_(user_activity.c.timestamp, user_activity.c.event_id) < tuple_(before.timestamp, before.id)
        )
    newest_first = query.order_by(user_activity.c.timestamp.desc(), user_activity.c.event_id.desc())
    # LATERAL, so that its LIMIT ends an index scan; the outer join, so that a user without entries has a generation.
    page = newest_first.limit(limit).correlate(read_models).lateral("page")
    with_generation = (
        select(read_models.c.generation.label("serving"), page)
        .join_from(read_models, page, true(), isouter=True)
        .where(read_models.c.name == History.name)
        .order_by(page.c.timestamp.desc(), page.c.event_id.desc())
    )
    rows = list(await connection.execute(with_generation))
    return rows[0].serving, [
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
