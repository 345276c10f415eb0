"""A user with a million entries beside one with a hundred: pages, pages of a type, and the summary."""

import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from redis.asyncio import Redis
from sqlalchemy import Integer, bindparam, text

from adapters.paging import Cursor
from adapters.postgres import Database
from adapters.settings import Settings
from bench.load import Latencies
from projections.generations import generation_of
from projections.history import History
from projections.history_pages import HistoryPages
from projections.history_rows import Wanted, rows_of
from projections.history_summary import HistorySummaries

_BATCH = 50_000
"""Entries of one statement: some three seconds, below the limit of a statement."""
_REPEATS = 200
_FILL = text("""
    WITH added AS (
        INSERT INTO user_history.user_activity
            (tenant_id, generation, event_id, user_id, activity_type, description, activity_data, timestamp)
        SELECT :tenant, :generation, gen_random_uuid(), :user,
            CASE n % 50 WHEN 0 THEN 'PROPERTY_CREATED' WHEN 1 THEN 'PROPERTY_FAVORITED' ELSE 'PROPERTY_VIEWED' END,
            'User viewed property: 3BHK Apartment in Gachibowli',
            jsonb_build_object('propertyId', gen_random_uuid(), 'location', 'Gachibowli'),
            now() - n * (interval '3 years' / :count)
        FROM generate_series(:first, :last) AS n
        RETURNING activity_type, CAST(timestamp AT TIME ZONE 'Asia/Kolkata' AS date) AS day
    )
    INSERT INTO user_history.activity_counts AS known (tenant_id, generation, user_id, activity_type, day, total)
    SELECT :tenant, :generation, CAST(:user AS uuid), coalesce(activity_type, ''), coalesce(day, '-infinity'), count(*)
    FROM added GROUP BY GROUPING SETS ((activity_type), (activity_type, day), (day))
    ON CONFLICT (user_id, generation, activity_type, day, tenant_id)
        DO UPDATE SET total = known.total + excluded.total
""").bindparams(*(bindparam(name, type_=Integer) for name in ("generation", "count", "first", "last")))

Row = tuple[str, float, float]
"""What is measured, and the median of the long and of the short history, in milliseconds."""


async def long_history(settings: Settings, valkey: Redis, entries: int) -> list[Row]:
    """Medians of the queries of a user with `entries` over three years, and of one with a hundred."""
    tenant, users = f"bench-{uuid4().hex[:8]}", (uuid4(), uuid4())
    all_tenants, database = Database.for_all_tenants(settings), Database.for_tenants(settings)
    for user, count in zip(users, (entries, 100), strict=True):
        await _fill(all_tenants, tenant, user, count)
    async with all_tenants.statements() as connection:
        await connection.execute(text("ANALYZE user_history.user_activity, user_history.activity_counts"))
    pages, summaries = HistoryPages(database, valkey, wait_seconds=0), HistorySummaries(database)
    half = Cursor(datetime.now(UTC) - timedelta(days=500), uuid4())
    rare = Wanted(types=("PROPERTY_CREATED", "PROPERTY_FAVORITED"))
    queries: dict[str, Callable[[UUID], Awaitable[object]]] = {
        "first-page": lambda user: pages.page(tenant, str(user), 20),
        "older-page": lambda user: _older(database, tenant, user, half),
        "page-of-types": lambda user: pages.page(tenant, str(user), 20, wanted=rare),
        "summary": lambda user: summaries.of(tenant, user, datetime.now(UTC)),
    }
    rows = []
    for name, query in queries.items():
        times: tuple[list[float], list[float]] = ([], [])
        for _ in range(_REPEATS):
            # In turn, so that both have the same load beside them.
            for user, taken in zip(users, times, strict=True):
                began = time.perf_counter()
                await query(user)
                taken.append(time.perf_counter() - began)
        long, short = (Latencies(sorted(taken)).ms(50) for taken in times)
        rows.append((name, long, short))
    await database.close()
    await all_tenants.close()
    return rows


async def _older(database: Database, tenant: str, user: UUID, before: Cursor) -> object:
    """A page from Postgres: of a long history, far below what Redis has."""
    async with database.statements(tenant) as connection:
        return await rows_of(connection, str(user), 21, Wanted(before=before))


async def _fill(all_tenants: Database, tenant: str, user: UUID, count: int) -> None:
    async with all_tenants.statements() as connection:
        generation = await generation_of(connection, History.name)
        which = {"tenant": tenant, "generation": generation, "user": str(user), "count": count}
        for first in range(0, count, _BATCH):
            await connection.execute(_FILL, {**which, "first": first, "last": min(first + _BATCH, count) - 1})
