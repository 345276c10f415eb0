"""The user's history: a projection of `user-activity` into Postgres and a Redis cache, and the query that reads pages.

Redis holds a sorted set for each user: the score is the time in microseconds, the member the entry's JSON. An empty
member with the lowest score is in the set while it holds the whole history, so that one command reads a page and tells
whether it is the last.
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
from sqlalchemy import ARRAY, DateTime, Integer, Text, Uuid, bindparam, delete, select, text, true, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters import event_store
from adapters.erasures import erased_among
from adapters.paging import Cursor
from adapters.postgres import Database
from adapters.redis import AutoPipeline, CircuitBreaker, RedisError
from adapters.tables import read_models, user_activity
from adapters.telemetry import EVENTS_UNREADABLE
from domain.activity import Activity, activity_of
from domain.events import USER_ACTIVITY, Event, UnreadableEvent, read_event
from projections.generations import ServingGeneration
from projections.projection import CacheKey, Projection

log = logging.getLogger(__name__)

MAX_CACHED = 1000
"""Entries cached in Redis for each user; older ones are read from Postgres."""
_CACHE_TTL_SECONDS = 86_400
"""A set that was filled a day ago expires, and the next read fills it from Postgres."""
_LEASE_SECONDS = 10
_MAX_TIES = 16
"""Entries with the timestamp of the cursor that a page may have to skip: several commands may have the same time."""
_POLL_SECONDS = 0.01
_ERASED = "USER_DELETED"
_TIMESTAMP_FIELD = b'"timestamp":"'
_ID = slice(len('{"eventId":"'), len('{"eventId":"') + 36)

# An absent set is left to the next reader to fill. Its lease is deleted, because its rows may lack this entry.
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
# One statement with an array for each column: a statement for each row took five times as long.
_INSERT = text("""
    INSERT INTO user_history.user_activity
        (tenant_id, generation, event_id, user_id, activity_type, description, activity_data, timestamp)
    SELECT tenant_id, :generation, event_id, user_id, activity_type, description, CAST(data AS jsonb), timestamp
    FROM unnest(:tenant_ids, :event_ids, :user_ids, :types, :descriptions, :data, :timestamps) WITH ORDINALITY
        AS activity (tenant_id, event_id, user_id, activity_type, description, data, timestamp, n)
    ORDER BY n
    ON CONFLICT DO NOTHING
""").bindparams(
    bindparam("generation", type_=Integer),
    bindparam("tenant_ids", type_=ARRAY(Text)),
    bindparam("event_ids", type_=ARRAY(Uuid)),
    bindparam("user_ids", type_=ARRAY(Text)),
    bindparam("types", type_=ARRAY(Text)),
    bindparam("descriptions", type_=ARRAY(Text)),
    bindparam("data", type_=ARRAY(Text)),
    bindparam("timestamps", type_=ARRAY(DateTime(timezone=True))),
)


@dataclass(frozen=True)
class Page:
    """Entries as JSON bytes, and the cursor of the next page; None on the last page."""

    entries: list[bytes]
    next: Cursor | None

    def contains(self, event_id: UUID) -> bool:
        wanted = str(event_id).encode()
        return any(entry[_ID] == wanted for entry in self.entries)


def entry_json(activity: Activity) -> bytes:
    """An entry as the API returns it, in deterministic bytes: `eventId` is the first field, `timestamp` the last."""
    return orjson.dumps(
        {
            "eventId": str(activity.event_id),
            "userId": str(activity.user_id),
            "activityType": activity.activity_type,
            "description": activity.description,
            # Sorted, because JSONB does not keep the order of keys.
            "activityData": orjson.Fragment(orjson.dumps(activity.activity_data, option=orjson.OPT_SORT_KEYS)),
            "timestamp": activity.timestamp.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        }
    )


def _keys(tenant_id: str, user_id: str, generation: int) -> list[str]:
    # The hash tag puts both keys of a user into one slot of a Redis cluster.
    name = f"{{{tenant_id}:{user_id}}}:history:{generation}"
    return [name, f"{name}:lease"]


def _cursor(activity: Activity) -> Cursor:
    return Cursor(activity.timestamp, activity.event_id)


class History(Projection[Activity]):
    """The projection: writes entries to Postgres, and to the sets that exist in Redis."""

    name = "history"
    topics = (USER_ACTIVITY,)
    tables = (user_activity,)

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._add = redis.register_script(_ADD)

    def read(self, topic: str, value: bytes) -> Activity:
        """The activity in a message. Raises UnreadableEvent with the reason."""
        try:
            return Activity.model_validate_json(value)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise UnreadableEvent(f"{'.'.join(map(str, first['loc'])) or 'message'}: {first['msg']}") from error

    def of_event(self, stored: dict[str, Any], event: Event) -> Activity | None:
        """The activity of a stored event; None for one without."""
        return activity_of(event)

    async def apply(self, tx: AsyncConnection, activities: Sequence[Activity], generation: int) -> None:
        """Insert entries; existing ones are skipped. An erased user has none, in whatever order their events come."""
        erased = await erased_among(tx, {(activity.tenant_id, activity.user_id) for activity in activities})
        for tenant_id, user_id in sorted(erased):
            of_user = user_activity.c.tenant_id == tenant_id, user_activity.c.user_id == str(user_id)
            await tx.execute(delete(user_activity).where(*of_user, user_activity.c.generation == generation))
        kept = [one for one in activities if (one.tenant_id, one.user_id) not in erased]
        if kept:
            kept.sort(key=lambda activity: activity.event_id.int)
            columns = {
                "tenant_ids": [activity.tenant_id for activity in kept],
                "event_ids": [activity.event_id for activity in kept],
                "user_ids": [str(activity.user_id) for activity in kept],
                "types": [activity.activity_type for activity in kept],
                "descriptions": [activity.description for activity in kept],
                "data": [orjson.dumps(activity.activity_data).decode() for activity in kept],
                "timestamps": [activity.timestamp for activity in kept],
            }
            await tx.execute(_INSERT, {"generation": generation, **columns})

    async def update_cache(self, activities: Sequence[Activity], generation: int) -> None:
        """Add entries to the sets that exist in Redis, and delete those of erased users. Raises RedisError."""
        by_user: dict[tuple[str, str], list[str | bytes]] = defaultdict(list)
        for activity in activities:
            by_user[activity.tenant_id, str(activity.user_id)] += [str(_cursor(activity).score), entry_json(activity)]
        async with self._redis.pipeline(transaction=False) as pipe:
            for (tenant_id, user_id), entries in by_user.items():
                await self._add(keys=_keys(tenant_id, user_id, generation), args=[MAX_CACHED, *entries], client=pipe)
            await pipe.execute()
        await self.drop_cached(self.cache_keys([one for one in activities if one.activity_type == _ERASED]), generation)

    def cache_keys(self, activities: Sequence[Activity]) -> set[CacheKey]:
        """The users whose sets the entries are in."""
        return {(activity.tenant_id, str(activity.user_id)) for activity in activities}

    async def drop_cached(self, users: set[CacheKey], generation: int) -> None:
        """Delete users' sets; the next reader fills them from Postgres. Raises RedisError."""
        keys = [key for tenant_id, user_id in users for key in _keys(tenant_id, user_id, generation)]
        if keys:
            await self._redis.unlink(*keys)


class HistoryPages:
    """The query: reads Redis, else `user_activity`, else the event store."""

    def __init__(self, database: Database, redis: Redis, wait_seconds: float) -> None:
        self._database = database
        self._redis = redis
        self._pipeline = AutoPipeline(redis)
        self._wait_seconds = wait_seconds
        self._fill = redis.register_script(_FILL)
        self._breaker = CircuitBreaker()
        self._serving = ServingGeneration(database, History.name)

    async def page(
        self, tenant_id: str, user_id: str, limit: int, cursor: Cursor | None = None, must_contain: Cursor | None = None
    ) -> Page:
        """Up to `limit` entries, newest first, older than `cursor`.

        `must_contain` is an entry that the history must have (read-your-writes): the query waits for it, and after
        `wait_seconds` reads the event store, which has every acknowledged write.

        Raises DatabaseUnavailable when neither Redis nor Postgres can answer.
        """
        deadline = time.monotonic() + self._wait_seconds
        while True:
            generation = await self._serving.get(tenant_id)
            page = await self._from_redis(tenant_id, user_id, generation, limit, cursor)
            if page is None:
                page = await self._from_postgres(tenant_id, user_id, generation, limit, cursor)
            if must_contain is None or page.contains(must_contain.id) or not _belongs_on(page, cursor, must_contain):
                return page
            if time.monotonic() >= deadline:
                return await self._from_store(tenant_id, user_id, limit, cursor)
            await asyncio.sleep(_POLL_SECONDS)

    async def _from_redis(
        self, tenant_id: str, user_id: str, generation: int, limit: int, cursor: Cursor | None
    ) -> Page | None:
        """None when Redis is unavailable or does not have the user's whole page."""
        if self._breaker.is_open:
            return None
        key = _keys(tenant_id, user_id, generation)[0]
        try:
            if cursor is None:
                entries: list[bytes] = await self._pipeline.execute("ZRANGE", key, 0, limit, "REV")
            else:
                entries = await self._older(key, cursor, limit)
        except RedisError:
            self._breaker.trip()
            return None
        if entries and entries[-1] == b"":
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
        older = [entry for entry, score in scored if score < cursor.score or entry[_ID] < edge]
        return older[: limit + 1]

    async def _from_postgres(
        self, tenant_id: str, user_id: str, generation: int, limit: int, cursor: Cursor | None
    ) -> Page:
        await self._refill(tenant_id, user_id, generation)
        async with self._database.statements(tenant_id) as connection:
            serving, entries = await _rows(connection, user_id, limit + 1, cursor)
        self._serving.update(serving)
        return _page(entries, limit)

    async def _refill(self, tenant_id: str, user_id: str, generation: int) -> None:
        """Cache this user's newest entries in Redis, unless one is added meanwhile."""
        if self._breaker.is_open:
            return
        keys, lease = _keys(tenant_id, user_id, generation), secrets.token_hex(8)
        try:
            if await self._redis.exists(keys[0]):
                return
            await self._redis.set(keys[1], lease, ex=_LEASE_SECONDS)
            async with self._database.statements(tenant_id) as connection:
                serving, rows = await _rows(connection, user_id, MAX_CACHED + 1, None)
            if serving != generation:
                return  # a rebuild has switched: the rows are of a generation that the lease does not cover
            pairs: list[str | bytes] = [] if len(rows) > MAX_CACHED else ["-inf", b""]
            for entry in rows[:MAX_CACHED]:
                pairs += [str(cursor_of(entry).score), entry]
            await self._fill(keys=keys, args=[lease, _CACHE_TTL_SECONDS, *pairs])
        except RedisError:
            self._breaker.trip()

    async def _from_store(self, tenant_id: str, user_id: str, limit: int, cursor: Cursor | None) -> Page:
        """A page read from the event store; unreadable events are skipped, so it may be shorter than `limit`."""
        async with self._database.statements(tenant_id) as connection:
            older_than = (cursor.timestamp, cursor.id) if cursor else None
            messages = await event_store.of_user(connection, UUID(user_id), cursor=older_than, limit=limit + 1)
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


def _belongs_on(page: Page, cursor: Cursor | None, entry: Cursor) -> bool:
    """Whether a complete page would contain the entry: it is between the page's cursor and the next one."""
    if cursor and entry >= cursor:
        return False
    return page.next is None or entry > page.next


def cursor_of(entry: bytes) -> Cursor:
    """The cursor of an entry, taken from the bytes of `entry_json` without parsing them."""
    at = entry[entry.rindex(_TIMESTAMP_FIELD) + len(_TIMESTAMP_FIELD) : -len('"}')]
    return Cursor(datetime.fromisoformat(at.decode()), UUID(entry[_ID].decode()))


def _page(entries: list[bytes], limit: int) -> Page:
    shown = entries[:limit]
    return Page(shown, cursor_of(shown[-1]) if len(entries) > limit else None)


async def _rows(
    connection: AsyncConnection, user_id: str, limit: int, cursor: Cursor | None
) -> tuple[int, list[bytes]]:
    """The serving generation and a user's entries in it, newest first, by one statement so that they are consistent."""
    query = select(user_activity).where(
        user_activity.c.user_id == user_id, user_activity.c.generation == read_models.c.generation
    )
    if cursor:
        query = query.where(
            tuple_(user_activity.c.timestamp, user_activity.c.event_id) < tuple_(cursor.timestamp, cursor.id)
        )
    newest_first = query.order_by(user_activity.c.timestamp.desc(), user_activity.c.event_id.desc())
    # LATERAL, so that LIMIT ends an index scan; an outer join, so that the generation is returned without entries too.
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
