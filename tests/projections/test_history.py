"""The history, under repeated and reordered entries and loss of Redis data."""

import asyncio
import random
import time
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from adapters import redis
from adapters.paging import Cursor
from adapters.postgres import Database
from adapters.settings import Settings
from adapters.telemetry import EVENTS_UNREADABLE
from domain.activity import Activity
from domain.user_commands import EraseUser
from projections.generations import generation_of
from projections.history import MAX_CACHED, History, entry_json
from projections.history_pages import HistoryPages
from tests.activities.accounts import Saving
from tests.activities.test_accounts import on
from tests.samples import create_property, new_id, new_tenant

START = datetime(2024, 1, 15, 10, 30, tzinfo=UTC)


def activities(tenant: str, user: UUID, count: int, *, same_time: int = 1) -> list[Activity]:
    """`count` entries, oldest first; `same_time` of them share each moment."""
    return [
        Activity(
            event_id=new_id(),
            user_id=user,
            tenant_id=tenant,
            activity_type="PROPERTY_CREATED",
            description=f"entry {n}",
            timestamp=START + timedelta(seconds=n // same_time),
            activity_data={"zeta": n, "a": {"y": 1, "x": [n]}, "location": "Gachibowli"},
        )
        for n in range(count)
    ]


def newest_first(entries: list[Activity]) -> list[bytes]:
    ordered = sorted(entries, key=lambda entry: (entry.timestamp, entry.event_id), reverse=True)
    return [entry_json(entry) for entry in ordered]


async def project(all_tenants: Database, history: History, entries: list[Activity]) -> None:
    async with all_tenants.transaction() as tx:
        generation = await generation_of(tx, history.name)
        await history.apply(tx, entries, generation)
    await history.update_cache(entries, generation)


async def everything(pages: HistoryPages, tenant: str, user: UUID, limit: int) -> list[bytes]:
    entries: list[bytes] = []
    before: Cursor | None = None
    while True:
        page = await pages.page(tenant, str(user), limit, before)
        entries += page.entries
        before = page.next
        if before is None:
            return entries


@pytest.fixture(scope="module")
def history(valkey: Redis) -> History:
    return History(valkey)


@pytest.fixture(scope="module")
def pages(database: Database, valkey: Redis) -> HistoryPages:
    return HistoryPages(database, valkey, wait_seconds=0.2)


@given(
    seed=st.integers(),
    count=st.integers(1, 30),
    same_time=st.integers(1, 5),
    limit=st.integers(1, 12),
    warm=st.booleans(),
)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
async def test_history_is_the_same_under_duplicates_and_any_order(
    all_tenants: Database,
    history: History,
    pages: HistoryPages,
    seed: int,
    count: int,
    same_time: int,
    limit: int,
    warm: bool,
) -> None:
    tenant, user, chance = new_tenant(), new_id(), random.Random(seed)
    entries = activities(tenant, user, count, same_time=same_time)
    deliveries = entries + chance.sample(entries, len(entries) // 2)
    chance.shuffle(deliveries)
    if warm:
        await pages.page(tenant, str(user), 1)  # caches an empty history

    while deliveries:
        size = chance.randint(1, len(deliveries))
        batch, deliveries = deliveries[:size], deliveries[size:]
        await project(all_tenants, history, batch)

    assert await everything(pages, tenant, user, limit) == newest_first(entries)
    assert await everything(pages, tenant, user, limit) == newest_first(entries)


async def test_history_survives_a_flush_of_redis(
    all_tenants: Database, history: History, pages: HistoryPages, valkey: Redis, tenant: str
) -> None:
    user = new_id()
    entries = activities(tenant, user, 10)
    await project(all_tenants, history, entries[:6])
    await pages.page(tenant, str(user), 5)
    await valkey.flushall()
    await project(all_tenants, history, entries[6:])

    assert await everything(pages, tenant, user, 3) == newest_first(entries)


async def test_erased_history_that_was_read_stays_empty_when_an_event_comes_again(
    all_tenants: Database, history: History, pages: HistoryPages, saving: Saving, tenant: str
) -> None:
    user = await saving.registered(tenant)
    entries = activities(tenant, user, 3)
    await project(all_tenants, history, entries)
    await saving.user(on(tenant, user, EraseUser))
    await project(all_tenants, history, entries[:1])
    assert await everything(pages, tenant, user, 2) == []

    await project(all_tenants, history, entries[1:])

    assert await everything(pages, tenant, user, 2) == []


async def test_entry_that_comes_while_a_reader_fills_redis_is_not_lost(
    database: Database, all_tenants: Database, history: History, valkey: Redis, tenant: str
) -> None:
    """The reader reads Postgres before the entry and writes Redis after it: its lease must be deleted."""
    user = new_id()
    old, late = activities(tenant, user, 2)
    await project(all_tenants, history, [old])
    pages = HistoryPages(database, valkey, wait_seconds=0)
    fill = pages._fill

    class FillAfterTheEntry:
        async def __call__(self, **arguments: object) -> object:
            await project(all_tenants, history, [late])
            return await fill(**arguments)  # type: ignore[arg-type]

    pages._fill = FillAfterTheEntry()  # type: ignore[assignment]
    await pages.page(tenant, str(user), 10)
    pages._fill = fill

    assert (await pages.page(tenant, str(user), 10)).entries == newest_first([old, late])


async def test_history_longer_than_redis_keeps_is_read_to_its_end(
    all_tenants: Database, history: History, pages: HistoryPages, valkey: Redis, tenant: str
) -> None:
    user = new_id()
    entries = activities(tenant, user, MAX_CACHED + 30, same_time=3)
    await project(all_tenants, history, entries[:MAX_CACHED])
    await pages.page(tenant, str(user), 1)
    await project(all_tenants, history, entries[MAX_CACHED:])

    assert await everything(pages, tenant, user, 100) == newest_first(entries)
    [key] = [key async for key in valkey.scan_iter(f"*{tenant}:{user}*")]
    assert await valkey.zcard(key) <= MAX_CACHED + 1


async def test_page_of_a_cached_history_does_not_read_postgres(
    all_tenants: Database, history: History, valkey: Redis, settings: Settings, tenant: str
) -> None:
    """Also when the cached generation has expired and Postgres is unavailable."""
    user, postgres = new_id(), Database.for_tenants(settings)
    entries = activities(tenant, user, 7)
    pages = HistoryPages(postgres, valkey, wait_seconds=0)
    await project(all_tenants, history, entries)
    await pages.page(tenant, str(user), 5)
    await postgres.close()
    nowhere = Database.for_tenants(settings.model_copy(update={"database_url": "postgresql://nobody@127.0.0.1:1/none"}))
    postgres._engine = nowhere._engine

    known = await everything(pages, tenant, user, 3)
    pages._serving._fresh_until = time.monotonic()

    assert known == newest_first(entries)
    assert await everything(pages, tenant, user, 3) == newest_first(entries)
    await nowhere.close()


async def test_history_is_read_from_postgres_while_redis_is_unavailable(
    database: Database, all_tenants: Database, settings: Settings, tenant: str
) -> None:
    user = new_id()
    entries = activities(tenant, user, 5)
    async with all_tenants.transaction() as tx:
        await History(redis.connect(settings)).apply(tx, entries, await generation_of(tx, "history"))
    unavailable = redis.connect(settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"}))

    pages = HistoryPages(database, unavailable, wait_seconds=0)

    assert await everything(pages, tenant, user, 2) == newest_first(entries)
    await unavailable.aclose()


async def test_required_entry_is_read_from_the_event_store_when_the_projection_lags(
    pages: HistoryPages, saving: Saving, tenant: str
) -> None:
    owner = await saving.registered(tenant)
    saved = await saving.property(create_property(tenant, owner))
    [event] = saved.events
    required = Cursor(event.timestamp, event.event_id)

    late = await pages.page(tenant, str(owner), 10)
    right = await pages.page(tenant, str(owner), 10, must_contain=required)

    assert late.entries == []
    assert right.contains(event.event_id)
    assert len(right.entries) == 2


async def test_unreadable_event_is_skipped_in_a_page_of_the_event_store(
    database: Database, valkey: Redis, tenant: str, user_with_unreadable_event: UUID
) -> None:
    """The projection has no events of this user, so a read that requires one reads the event store."""
    pages, user = HistoryPages(database, valkey, wait_seconds=0), str(user_with_unreadable_event)
    must_have = Cursor(START, new_id())
    skipped = EVENTS_UNREADABLE.labels("history")._value
    before_all = skipped.get()

    whole = (await pages.page(tenant, user, 5, must_contain=must_have)).entries

    assert len(whole) == 4
    assert skipped.get() == before_all + 1
    for limit in range(1, 5):
        read: list[bytes] = []
        before: Cursor | None = None
        while (page := await pages.page(tenant, user, limit, before, must_contain=must_have)).next:
            read += page.entries
            before = page.next
        assert read + page.entries == whole


async def test_required_entry_is_waited_for(
    database: Database, all_tenants: Database, history: History, valkey: Redis, tenant: str
) -> None:
    user = new_id()
    [entry] = activities(tenant, user, 1)
    patient = HistoryPages(database, valkey, wait_seconds=20)

    reading = asyncio.create_task(
        patient.page(tenant, str(user), 10, must_contain=Cursor(entry.timestamp, entry.event_id))
    )
    await asyncio.sleep(0)
    await project(all_tenants, history, [entry])

    assert (await reading).entries == [entry_json(entry)]


async def test_one_tenant_reads_nothing_of_another(
    all_tenants: Database, history: History, pages: HistoryPages
) -> None:
    user, theirs = new_id(), new_tenant()
    await project(all_tenants, history, activities(new_tenant(), user, 3))

    assert (await pages.page(theirs, str(user), 10)).entries == []
    assert (await pages.page(theirs, str(user), 10)).entries == []
