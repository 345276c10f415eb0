"""The user's history: a projection of `user-activity` into Postgres and a Redis cache. Its query is in `history_pages`.

Redis holds a sorted set for each user: the score is the time in microseconds, the member the entry's JSON. An empty
member with the lowest score is in the set while it holds the whole history, so that one command reads a page and tells
whether it is the last.

`user_history.activity_counts` has the number of a user's entries of each type, of each day, and of each type on each
day; a day's count of all types has an empty type, and a type's count of all days the day `-infinity`. The statement
that inserts entries counts those that it has inserted, so a repeated one counts once.
"""

from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
from pydantic import ValidationError
from redis.asyncio import Redis
from sqlalchemy import ARRAY, DateTime, Integer, Text, Uuid, bindparam, text
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.erasures import erased_among
from adapters.paging import Cursor
from adapters.personal_data import delete_history
from adapters.tables import activity_counts, user_activity
from domain.activity import Activity, activity_of
from domain.events import USER_ACTIVITY, Event, UnreadableEvent
from projections.projection import CacheKey, Projection

MAX_CACHED = 1000
"""Entries cached in Redis for each user; older ones are read from Postgres."""
_ERASED = "USER_DELETED"
TIMESTAMP_FIELD = b'"timestamp":"'
ID_PLACE = slice(len('{"eventId":"'), len('{"eventId":"') + 36)
"""Where the event id is in an entry."""

# An absent set is left to the next reader to fill. Its lease is deleted, because its rows may lack this entry.
_ADD = """
if redis.call('EXISTS', KEYS[1]) == 0 then redis.call('DEL', KEYS[2]) return 0 end
redis.call('ZADD', KEYS[1], unpack(ARGV, 2))
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -2 - ARGV[1])
return 1
"""
_INSERT = text("""
    WITH added AS (
        INSERT INTO user_history.user_activity
            (tenant_id, generation, event_id, user_id, activity_type, description, activity_data, timestamp)
        SELECT tenant_id, :generation, event_id, CAST(user_id AS text), activity_type, description,
            CAST(activity_data AS jsonb), timestamp
        FROM unnest(:tenant_ids, :event_ids, :user_ids, :types, :descriptions, :data, :timestamps) WITH ORDINALITY
            AS event (tenant_id, event_id, user_id, activity_type, description, activity_data, timestamp, n)
        ORDER BY n
        ON CONFLICT DO NOTHING
        RETURNING tenant_id, CAST(user_id AS uuid) AS user_id, activity_type,
            CAST(timestamp AT TIME ZONE 'Asia/Kolkata' AS date) AS day
    )
    INSERT INTO user_history.activity_counts AS known (tenant_id, generation, user_id, activity_type, day, total)
    SELECT tenant_id, :generation, user_id, coalesce(activity_type, ''), coalesce(day, '-infinity'), count(*)
    FROM added
    GROUP BY tenant_id, user_id, GROUPING SETS ((activity_type), (activity_type, day), (day))
    ORDER BY tenant_id, user_id, 4, 5
    ON CONFLICT (user_id, generation, activity_type, day, tenant_id)
        DO UPDATE SET total = known.total + excluded.total
""").bindparams(
    bindparam("generation", type_=Integer),
    bindparam("tenant_ids", type_=ARRAY(Text)),
    bindparam("event_ids", type_=ARRAY(Uuid)),
    bindparam("user_ids", type_=ARRAY(Uuid)),
    bindparam("types", type_=ARRAY(Text)),
    bindparam("descriptions", type_=ARRAY(Text)),
    bindparam("data", type_=ARRAY(Text)),
    bindparam("timestamps", type_=ARRAY(DateTime(timezone=True))),
)


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


def cursor_of(entry: bytes) -> Cursor:
    """The cursor of an entry, taken from the bytes of `entry_json` without parsing them."""
    at = entry[entry.rindex(TIMESTAMP_FIELD) + len(TIMESTAMP_FIELD) : -len('"}')]
    return Cursor(datetime.fromisoformat(at.decode()), UUID(entry[ID_PLACE].decode()))


def cache_keys_of(tenant_id: str, user_id: str, generation: int) -> list[str]:
    """The keys of a user's set and of the lease to fill it."""
    # The hash tag puts both keys of a user into one slot of a Redis cluster.
    name = f"{{{tenant_id}:{user_id}}}:history:{generation}"
    return [name, f"{name}:lease"]


class History(Projection[Activity]):
    """The projection: writes entries to Postgres, and to the sets that exist in Redis."""

    name = "history"
    topics = (USER_ACTIVITY,)
    tables = (user_activity, activity_counts)

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._add = redis.register_script(_ADD)
        self._erased: set[tuple[str, UUID]] = set()
        """Erased users among whose entries are some that `apply` has left out, and the cache has not."""

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
            await delete_history(tx, tenant_id, user_id, generation)
        self._erased |= erased
        new = {
            activity.event_id: activity
            for activity in activities
            if (activity.tenant_id, activity.user_id) not in erased
        }
        if new:
            rows = sorted(new.values(), key=lambda activity: activity.event_id.int)
            await tx.execute(_INSERT, _columns(rows, generation))

    async def update_cache(self, activities: Sequence[Activity], generation: int) -> None:
        """Add entries to the sets that exist in Redis, and delete those of erased users. Raises RedisError."""
        by_user: dict[tuple[str, UUID], list[str | bytes]] = defaultdict(list)
        deleted: set[tuple[str, UUID]] = set()
        for activity in activities:
            user = activity.tenant_id, activity.user_id
            if activity.activity_type == _ERASED or user in self._erased:
                deleted.add(user)
            score = str(Cursor(activity.timestamp, activity.event_id).score)
            by_user[user] += [score, entry_json(activity)]
        async with self._redis.pipeline(transaction=False) as pipe:
            for (tenant_id, user_id), entries in by_user.items():
                if (tenant_id, user_id) not in deleted:
                    keys = cache_keys_of(tenant_id, str(user_id), generation)
                    await self._add(keys=keys, args=[MAX_CACHED, *entries], client=pipe)
            await pipe.execute()
        await self.drop_cached([(tenant_id, str(user_id)) for tenant_id, user_id in deleted], generation)
        self._erased -= deleted

    def cache_keys(self, activities: Sequence[Activity]) -> set[CacheKey]:
        """The users whose sets the entries are in."""
        return {(activity.tenant_id, str(activity.user_id)) for activity in activities}

    async def drop_cached(self, users: Collection[CacheKey], generation: int) -> None:
        """Delete users' sets; the next reader fills them from Postgres. Raises RedisError."""
        keys = [key for tenant_id, user_id in users for key in cache_keys_of(tenant_id, user_id, generation)]
        if keys:
            await self._redis.unlink(*keys)


def _columns(rows: Sequence[Activity], generation: int) -> dict[str, object]:
    return {
        "generation": generation,
        "tenant_ids": [row.tenant_id for row in rows],
        "event_ids": [row.event_id for row in rows],
        "user_ids": [row.user_id for row in rows],
        "types": [row.activity_type for row in rows],
        "descriptions": [row.description for row in rows],
        "data": [orjson.dumps(row.activity_data).decode() for row in rows],
        "timestamps": [row.timestamp for row in rows],
    }
