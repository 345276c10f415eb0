"""Pages of a history by time and type, its summary, and the cache that sign-in fills."""

import asyncio
import random
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from adapters.paging import Cursor
from adapters.postgres import Database
from adapters.settings import Settings
from domain.activity import Activity
from projections.history import MAX_CACHED, History, cache_keys_of, entry_json
from projections.history_pages import HistoryPages
from projections.history_rows import Wanted, rows_of
from projections.history_summary import HistorySummaries
from tests.activities.accounts import Saving
from tests.plans import Explained, Explaining
from tests.projections.test_history import START, activities, newest_first, project
from tests.samples import create_property, new_id, new_tenant

TYPES = ("PROPERTY_CREATED", "PROPERTY_VIEWED", "PROPERTY_SEARCHED", "USER_LOGGED_IN")


def some_of(tenant: str, user: UUID, count: int, chance: random.Random, same_time: int = 1) -> list[Activity]:
    """Entries of several types."""
    return [
        one.model_copy(update={"activity_type": chance.choice(TYPES)})
        for one in activities(tenant, user, count, same_time=same_time)
    ]


def are_wanted(entries: list[Activity], wanted: Wanted) -> list[Activity]:
    return [
        one
        for one in entries
        if (not wanted.types or one.activity_type in wanted.types)
        and not (wanted.since and one.timestamp < wanted.since)
        and not (wanted.before and (one.timestamp, one.event_id) >= (wanted.before.timestamp, wanted.before.id))
    ]


async def all_pages(pages: HistoryPages, tenant: str, user: UUID, limit: int, wanted: Wanted) -> list[bytes]:
    entries, cursor = list[bytes](), None
    while True:
        page = await pages.page(tenant, str(user), limit, cursor, wanted=wanted)
        entries += page.entries
        if (cursor := page.next) is None:
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
    since=st.none() | st.integers(-2, 32),
    before=st.none() | st.integers(-2, 32),
    types=st.sets(st.sampled_from(TYPES)),
)
@hypothesis_settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
async def test_pages_by_time_and_type_are_what_a_list_filtered_by_hand_is(
    all_tenants: Database,
    history: History,
    pages: HistoryPages,
    seed: int,
    count: int,
    same_time: int,
    limit: int,
    warm: bool,
    since: int | None,
    before: int | None,
    types: set[str],
) -> None:
    tenant, user = new_tenant(), new_id()
    entries = some_of(tenant, user, count, random.Random(seed), same_time)
    wanted = Wanted(
        None if since is None else START + timedelta(seconds=since),
        None if before is None else Cursor(START + timedelta(seconds=before), UUID(int=0)),
        tuple(types),
    )
    if warm:
        await pages.warm(tenant, str(user))
    await project(all_tenants, history, entries)

    assert await all_pages(pages, tenant, user, limit, wanted) == newest_first(are_wanted(entries, wanted))


@pytest.mark.parametrize("types", [(), TYPES[:2]])
async def test_pages_have_no_gap_and_no_repeat_where_redis_ends_while_entries_are_added(
    all_tenants: Database, history: History, pages: HistoryPages, tenant: str, types: tuple[str, ...]
) -> None:
    """Each added entry pushes one from Redis that a reader has not come to."""
    user, chance = new_id(), random.Random(7)
    known = some_of(tenant, user, MAX_CACHED + 200, chance)
    later = some_of(tenant, user, 600, chance)
    later = [one.model_copy(update={"timestamp": one.timestamp + timedelta(days=1)}) for one in later]
    await project(all_tenants, history, known)
    await pages.warm(tenant, str(user))
    reading = asyncio.Event()

    async def write() -> None:
        await reading.wait()
        for n in range(0, len(later), 10):
            await project(all_tenants, history, later[n : n + 10])

    async def read() -> list[bytes]:
        entries, cursor = list[bytes](), None
        while True:
            page = await pages.page(tenant, str(user), 20, cursor, wanted=Wanted(types=types))
            reading.set()
            entries += page.entries
            if (cursor := page.next) is None:
                return entries

    read_entries, _ = await asyncio.gather(read(), write())

    assert read_entries == newest_first(are_wanted(known, Wanted(types=types)))
    everything_now = newest_first(are_wanted([*known, *later], Wanted(types=types)))
    assert await all_pages(pages, tenant, user, 100, Wanted(types=types)) == everything_now


async def test_first_page_after_sign_in_is_one_command_to_redis(
    all_tenants: Database, history: History, valkey: Redis, settings: Settings, tenant: str
) -> None:
    user, postgres = new_id(), Database.for_tenants(settings)
    entries = activities(tenant, user, 30)
    await project(all_tenants, history, entries)
    pages = HistoryPages(postgres, valkey, wait_seconds=0)
    await pages.warm(tenant, str(user))
    await postgres.close()
    nowhere = Database.for_tenants(settings.model_copy(update={"database_url": "postgresql://nobody@127.0.0.1:1/none"}))
    postgres._engine = nowhere._engine
    end = str(new_id())

    async with valkey.monitor() as monitor:
        page = await pages.page(tenant, str(user), 20)
        await valkey.echo(end)
        commands = []
        async for one in monitor.listen():
            if end in one["command"]:
                break
            commands.append(one["command"])

    assert page.entries == newest_first(entries)[:20]
    assert [command.split()[0] for command in commands if str(user) in command] == ["ZRANGE"]
    await nowhere.close()


async def test_warming_fills_again_when_an_entry_comes_meanwhile(
    database: Database, all_tenants: Database, history: History, valkey: Redis, tenant: str
) -> None:
    user, pages = new_id(), HistoryPages(database, valkey, wait_seconds=0)
    old, late = activities(tenant, user, 2)
    await project(all_tenants, history, [old])
    fill, coming = pages._fill, [late]

    class FillAfterTheEntry:
        async def __call__(self, **arguments: object) -> object:
            if coming:
                await project(all_tenants, history, [coming.pop()])
            return await fill(**arguments)  # type: ignore[arg-type]

    pages._fill = FillAfterTheEntry()  # type: ignore[assignment]
    await pages.warm(tenant, str(user))

    generation = await pages._serving.get(tenant)
    assert await valkey.zcard(cache_keys_of(tenant, str(user), generation)[0]) == 3


async def test_warming_raises_nothing_while_postgres_is_unavailable(valkey: Redis, settings: Settings) -> None:
    nowhere = Database.for_tenants(settings.model_copy(update={"database_url": "postgresql://nobody@127.0.0.1:1/none"}))

    await HistoryPages(nowhere, valkey, wait_seconds=0).warm("t", str(new_id()))

    await nowhere.close()


async def test_required_entry_is_on_a_page_of_its_type_when_the_projection_lags(
    all_tenants: Database, history: History, pages: HistoryPages, saving: Saving, tenant: str
) -> None:
    owner = await saving.registered(tenant)
    [viewed] = activities(tenant, owner, 1)
    await project(all_tenants, history, [viewed])
    saved = await saving.property(create_property(tenant, owner))
    required = Cursor(saved.events[0].timestamp, saved.events[0].event_id)
    created, others = Wanted(types=("PROPERTY_CREATED",)), Wanted(types=("PROPERTY_VIEWED",))

    page = await pages.page(tenant, str(owner), 1, must_contain=required, wanted=created)
    rest = await pages.page(tenant, str(owner), 1, page.next, must_contain=required, wanted=created)

    assert page.contains(saved.events[0].event_id)
    assert rest.entries == [entry_json(viewed)]
    assert (await pages.page(tenant, str(owner), 5, must_contain=required, wanted=others)).entries == []


async def test_required_entry_before_the_time_of_a_page_is_not_waited_for(
    database: Database, valkey: Redis, tenant: str
) -> None:
    patient, old = HistoryPages(database, valkey, wait_seconds=600), Cursor(START, new_id())

    page = await patient.page(tenant, str(new_id()), 5, must_contain=old, wanted=Wanted(since=START + timedelta(1)))

    assert page.entries == []


async def test_page_since_a_time_is_read_from_the_event_store_when_the_projection_lags(
    pages: HistoryPages, saving: Saving, tenant: str
) -> None:
    owner = await saving.registered(tenant)
    saved = await saving.property(create_property(tenant, owner))
    required = Cursor(saved.events[0].timestamp, saved.events[0].event_id)

    page = await pages.page(tenant, str(owner), 5, must_contain=required, wanted=Wanted(since=required.timestamp))

    assert [page.contains(required.id), len(page.entries)] == [True, 1]


async def test_one_tenant_reads_no_type_and_no_summary_of_another(
    database: Database, all_tenants: Database, history: History, pages: HistoryPages
) -> None:
    user, theirs = new_id(), new_tenant()
    await project(all_tenants, history, activities(new_tenant(), user, 3))

    page = await pages.page(theirs, str(user), 10, wanted=Wanted(types=("PROPERTY_CREATED",)))
    summary = await HistorySummaries(database).of(theirs, user, START)

    assert page.entries == []
    assert (summary.by_type, summary.latest_by_type, summary.most_active, summary.latest) == ({}, {}, None, None)


@given(seed=st.integers(), count=st.integers(1, 60))
@hypothesis_settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
async def test_summary_counts_each_entry_once_whatever_comes_twice(
    database: Database, all_tenants: Database, history: History, seed: int, count: int
) -> None:
    tenant, user, chance = new_tenant(), new_id(), random.Random(seed)
    now = datetime(2024, 3, 1, 20, 0, tzinfo=UTC)  # it is the 2nd of March in India
    entries = [
        one.model_copy(update={"timestamp": now - timedelta(hours=chance.randint(0, 24 * 60))})
        for one in some_of(tenant, user, count, chance)
    ]
    deliveries = [*entries, *chance.choices(entries, k=count)]
    chance.shuffle(deliveries)
    for n in range(0, len(deliveries), 7):
        await project(all_tenants, history, deliveries[n : n + 7])

    summary = await HistorySummaries(database).of(tenant, user, now)

    days = {one.event_id: (one.timestamp + timedelta(hours=5, minutes=30)).date() for one in entries}
    by_day = Counter(days.values())
    most = max(by_day.items(), key=lambda item: (item[1], item[0]))
    assert summary.by_type == Counter(one.activity_type for one in entries)
    assert summary.latest_by_type == Counter(
        one.activity_type for one in entries if days[one.event_id] >= date(2024, 2, 2)
    )
    assert summary.most_active
    assert (summary.most_active.day, summary.most_active.count) == most
    assert summary.latest == newest_first(entries)[0]


async def test_summary_and_pages_of_types_read_ranges_of_indexes(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the plan for a small table is: without sequential scans Postgres shows the index that a range has."""
    owner = await asyncpg.connect(settings.database_url)
    await owner.execute("SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_sort = off")
    explaining: Any = Explaining(owner)
    plans = {}
    for name, wanted in (("all", Wanted()), ("types", Wanted(types=TYPES)), ("since", Wanted(since=START))):
        with pytest.raises(Explained) as explained:
            await rows_of(explaining, str(new_id()), 21, wanted)
        plans[name] = str(explained.value)
    await owner.close()

    assert "user_activity_page" in plans["all"]
    assert "user_activity_type" in plans["types"]
    assert "timestamp" in plans["since"].partition("user_activity_page")[2]
