"""Rebuilds of every projection, each beside a COPY of the rows that it has written into an empty table like its own."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
from redis.asyncio import Redis
from sqlalchemy import Table, text

from adapters.postgres import Database
from adapters.search.choice import index_of
from adapters.settings import Settings
from bench.search_listings import listings
from projections.rebuild import rebuild
from projections.registry import PROJECTIONS, Clients
from tests.relevance.loading import saved

_CHUNK = 20_000
"""Events of one INSERT: some two seconds, and the server ends a statement after ten."""
_OWNERS = 200
_FACTS = 500
"""Different listings, whose facts the events have: their words are in the vocabulary of the search."""
# Each event has a listing and an id of its own, and one of a few owners.
_FILL = text("""
    INSERT INTO user_history.event_store
        (event_id, aggregate_id, user_id, event_type, event_data, timestamp, version, tenant_id, schema_version,
         command_id, published_at)
    SELECT gen_random_uuid(), listing, owner, :type,
           CAST(facts AS jsonb) || jsonb_build_object('propertyId', listing, 'ownerId', owner),
           now() - n * interval '1 second', 1, :tenant, :schema_version, gen_random_uuid(), now()
    FROM (
        SELECT n, CAST(gen_random_uuid() AS text) AS listing,
               (CAST(:owners AS text[]))[1 + n % cardinality(CAST(:owners AS text[]))] AS owner,
               (CAST(:data AS text[]))[1 + n % cardinality(CAST(:data AS text[]))] AS facts
        FROM generate_series(1, :rows) AS n
    ) AS made
""")


async def fill(settings: Settings, events: int) -> None:
    """Store so many events of listings, marked published."""
    created = list(saved(settings.default_tenant, listings(_FACTS)))
    values = {
        "type": created[0].event_type,
        "data": [event.model_dump_json(include={"data"}, by_alias=True)[len('{"data":') : -1] for event in created],
        "tenant": settings.default_tenant,
        "schema_version": created[0].schema_version,
        "owners": [str(uuid4()) for _ in range(_OWNERS)],
    }
    database = Database.for_tenants(settings)
    for first in range(0, events, _CHUNK):
        async with database.statements(settings.default_tenant) as connection:
            await connection.execute(_FILL, {**values, "rows": min(_CHUNK, events - first)})
    await database.close()
    owner = await asyncpg.connect(settings.database_url)
    await owner.execute("VACUUM ANALYZE user_history.event_store")
    await owner.close()


async def measure(settings: Settings, redis: Redis, events: int, row: Callable[[str, float, str, float], None]) -> None:
    """Fill the event store, then add a row for each projection of the registry that has tables."""
    await fill(settings, events)
    database, clients = Database.for_all_tenants(settings), Clients(redis, index_of(settings))
    for name, make in PROJECTIONS.items():
        projection, done = make(clients), 0
        if not projection.tables:
            continue

        def count(replayed: int) -> None:
            nonlocal done
            done = max(done, replayed)

        began = time.perf_counter()
        rebuilt = await rebuild(database, projection, count)
        seconds = time.perf_counter() - began
        copied = sum([await _copied(settings, table, rebuilt.generation) for table in projection.tables])
        row(f"rebuild-{name}", done / seconds, "events/s", done / copied)
    await database.close()
    if clients.index:
        await clients.index.close()


async def _copied(settings: Settings, table: Table, generation: int) -> float:
    """The seconds that a COPY takes of the rows of a generation into a table with the same indexes."""
    columns = [column.name for column in table.c if column.computed is None]
    owner = await asyncpg.connect(settings.database_url)
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows"
        names = ", ".join(f'"{name}"' for name in columns)
        query = f"SELECT {names} FROM {table.fullname} WHERE generation = {generation}"
        await owner.copy_from_query(query, output=str(rows), format="binary")
        await owner.execute(f"CREATE TABLE public.copied (LIKE {table.fullname} INCLUDING ALL)")
        began = time.perf_counter()
        copying: Any = owner.copy_to_table
        await copying("copied", schema_name="public", source=str(rows), columns=columns, format="binary")
        seconds = time.perf_counter() - began
    await owner.execute("DROP TABLE public.copied")
    await owner.close()
    return seconds
