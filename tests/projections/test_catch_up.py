"""Catching up: a ready projection has every event stored before its start, whatever Kafka has retained."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import asyncpg
import pytest
from redis.asyncio import Redis

from adapters import event_store, redis
from adapters.event_store import Position
from adapters.kafka import messages_of
from adapters.postgres import Database, write_rows
from adapters.settings import Settings
from domain.activity import Activity
from domain.events import USER_ACTIVITY, new_events
from domain.property_commands import decide
from projections.catch_up import CatchUp
from projections.history import History, cache_keys_of
from projections.history_pages import HistoryPages
from projections.parking import EARLIER_EVENT_PARKED, ConsumedMessage, delete_parked, list_parked, park
from projections.runner import Runner
from projections.sink import Sink
from tests.activities.accounts import Saving
from tests.platform import until
from tests.projections.messages import RecordedHistory, catch_up, entries, stored_messages
from tests.projections.test_rebuild import serving
from tests.samples import actor, create_property, new_id

PUBLISHED_OR_NOT = pytest.mark.parametrize(
    "marked_published", [False, True], ids=["never published", "published and lost by Kafka"]
)


async def owner_with_properties(saving: Saving, tenant: str, count: int) -> UUID:
    """A user whose registration and properties are stored but not published."""
    user = await saving.registered(tenant)
    for _ in range(count):
        await saving.property(create_property(tenant, user))
    return user


async def position_of_the_newest(all_tenants: Database, tenant: str) -> Position:
    async with all_tenants.transaction() as tx:
        found = await event_store.visible_between(tx, None, None, Position(), 100_000)
    return max(position for position, message in found if message["tenantId"] == tenant)


async def settled(all_tenants: Database, tenant: str) -> bool:
    """Whether no transaction is open any more that is older than the tenant's newest event."""
    newest = await position_of_the_newest(all_tenants, tenant)
    async with all_tenants.statements() as connection:
        return await event_store.settled_below(connection) > newest.tx_id


async def checkpoint(all_tenants: Database) -> Position:
    async with all_tenants.transaction() as tx:
        return await event_store.checkpoint(tx, "history")


async def entries_in_redis(all_tenants: Database, valkey: Redis, tenant: str, user: UUID) -> int:
    """The number of entries in the user's set, without the end marker."""
    key = cache_keys_of(tenant, str(user), await serving(all_tenants))[0]
    return len([entry for entry in await valkey.zrange(key, 0, -1) if entry])


@PUBLISHED_OR_NOT
async def test_ready_projection_has_events_that_kafka_never_delivers(
    settings: Settings,
    database: Database,
    all_tenants: Database,
    valkey: Redis,
    saving: Saving,
    owner: asyncpg.Connection,
    tenant: str,
    marked_published: bool,
) -> None:
    user = await owner_with_properties(saving, tenant, 3)
    await HistoryPages(database, valkey, wait_seconds=0).page(tenant, str(user), 5)  # caches an empty history
    if marked_published:
        publish = "UPDATE user_history.event_store SET published_at = now() WHERE tenant_id = $1"
        await owner.execute(publish, tenant)
    stop, runner = asyncio.Event(), Runner(settings, all_tenants, History(valkey), f"test-{tenant}")
    before = runner.waiting_for

    running = asyncio.create_task(runner.run(stop))
    await until(lambda: ready(runner))
    in_postgres = await entries(database, tenant, user)
    in_redis = await entries_in_redis(all_tenants, valkey, tenant, user)
    stop.set()
    await running

    assert before == ["Kafka", "history is catching up"]
    assert (in_postgres, in_redis) == (4, 4)


async def ready(runner: Runner[Activity]) -> bool:
    return not runner.waiting_for


async def test_projection_without_kafka_catches_up_and_reports_that_it_waits_for_kafka(
    settings: Settings,
    database: Database,
    all_tenants: Database,
    valkey: Redis,
    saving: Saving,
    tenant: str,
) -> None:
    user = await owner_with_properties(saving, tenant, 1)
    nowhere = settings.model_copy(update={"kafka_bootstrap_servers": "127.0.0.1:1"})
    stop, runner = asyncio.Event(), Runner(nowhere, all_tenants, History(valkey))

    async def caught_up() -> bool:
        return runner.waiting_for == ["Kafka"]

    running = asyncio.create_task(runner.run(stop))
    await until(caught_up)
    stop.set()
    await running

    assert await entries(database, tenant, user) == 2


async def test_second_start_applies_only_newer_events(
    all_tenants: Database, valkey: Redis, saving: Saving, tenant: str
) -> None:
    first, second = RecordedHistory(valkey), RecordedHistory(valkey)
    user = await owner_with_properties(saving, tenant, 3)
    old = {UUID(message["eventId"]) for message in await stored_messages(all_tenants, tenant)}
    await until(lambda: passed(all_tenants, first, tenant))

    saved = await saving.property(create_property(tenant, user))
    await catch_up(all_tenants, second)

    assert old <= set(first.applied)
    assert second.applied == [saved.events[0].event_id]


async def passed(all_tenants: Database, history: History, tenant: str) -> bool:
    """Catch up; whether the checkpoint has passed what the tenant has, which it does not while older ones may come."""
    await catch_up(all_tenants, history)
    return await checkpoint(all_tenants) >= await position_of_the_newest(all_tenants, tenant)


async def test_event_of_an_older_transaction_that_was_open_meanwhile_is_applied_by_the_next_start(
    database: Database, all_tenants: Database, valkey: Redis, saving: Saving, tenant: str
) -> None:
    history = History(valkey)
    slow = create_property(tenant, new_id())
    [event] = new_events(slow, slow.property_id, 0, decide(None, slow, actor(slow.user_id)))
    data = event.data.model_dump(mode="json", by_alias=True)
    async with database.transaction(tenant) as tx:
        await write_rows(tx, [event_store.event_row(event, data)])
        user = await owner_with_properties(saving, tenant, 1)
        await catch_up(all_tenants, history)
        while_open = await entries(database, tenant, user)
        checkpoint_while_open = await checkpoint(all_tenants)
    await catch_up(all_tenants, history)

    assert while_open == 2
    assert checkpoint_while_open < await position_of_the_newest(all_tenants, tenant)
    assert await entries(database, tenant, slow.user_id) == 1


async def test_events_of_a_parked_key_are_parked(
    database: Database, all_tenants: Database, valkey: Redis, saving: Saving, tenant: str
) -> None:
    user = await owner_with_properties(saving, tenant, 2)
    async with all_tenants.transaction() as tx:
        unreadable = ConsumedMessage(USER_ACTIVITY, str(user), b"unreadable")
        await park(tx, "history", [(unreadable, "a mistake")])

    for _ in range(2):
        await catch_up(all_tenants, History(valkey))

    async with all_tenants.transaction() as tx:
        parked = await list_parked(tx, "history", str(user))
        await delete_parked(tx, "history", [row.id for row in parked])
    assert [row.reason for row in parked] == ["a mistake", *[EARLIER_EVENT_PARKED] * 3]
    assert await entries(database, tenant, user) == 0


async def test_unreadable_event_is_skipped_and_marked_unpublished(
    database: Database,
    all_tenants: Database,
    valkey: Redis,
    owner: asyncpg.Connection,
    tenant: str,
    user_with_unreadable_event: UUID,
) -> None:
    await owner.execute("UPDATE user_history.event_store SET published_at = now() WHERE tenant_id = $1", tenant)

    await catch_up(all_tenants, History(valkey))

    query = "SELECT event_type FROM user_history.event_store WHERE tenant_id = $1 AND published_at IS NULL"
    assert [row["event_type"] for row in await owner.fetch(query, tenant)] == ["FROM_A_LATER_RELEASE"]
    assert await entries(database, tenant, user_with_unreadable_event) == 4


async def test_checkpoint_waits_until_redis_has_the_entries(
    settings: Settings,
    database: Database,
    all_tenants: Database,
    valkey: Redis,
    saving: Saving,
    tenant: str,
) -> None:
    """With Redis unavailable the projection becomes ready, and the next start updates Redis."""
    unavailable = redis.connect(settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"}))
    user = await owner_with_properties(saving, tenant, 1)
    await HistoryPages(database, valkey, wait_seconds=0).page(tenant, str(user), 5)  # caches an empty history

    await catch_up(all_tenants, History(unavailable))
    in_postgres, in_redis = (
        await entries(database, tenant, user),
        await entries_in_redis(all_tenants, valkey, tenant, user),
    )
    stands = await checkpoint(all_tenants)
    await catch_up(all_tenants, History(valkey))

    assert (in_postgres, in_redis) == (2, 0)
    assert stands < await position_of_the_newest(all_tenants, tenant)
    assert await entries_in_redis(all_tenants, valkey, tenant, user) == 2
    await unavailable.aclose()


@asynccontextmanager
async def running_projection(
    all_tenants: Database, history: History
) -> AsyncIterator[tuple[Sink[Activity], CatchUp[Activity]]]:
    """What a running projection has, when it has caught up; its rounds are the test's to begin."""
    sink = Sink(all_tenants, history)
    following = CatchUp(all_tenants, history, sink)
    await following.round(asyncio.Event())
    assert following.done
    yield sink, following


async def test_rounds_move_the_checkpoint_past_what_kafka_has_brought_and_apply_nothing_twice(
    all_tenants: Database, valkey: Redis, saving: Saving, tenant: str
) -> None:
    history = RecordedHistory(valkey)
    async with running_projection(all_tenants, history) as (sink, following):
        await owner_with_properties(saving, tenant, 2)
        stored = await stored_messages(all_tenants, tenant)
        brought = [
            ConsumedMessage(message.topic, message.key.decode(), message.value, event["eventId"])
            for event in stored
            for message in messages_of(event)
            if message.topic == USER_ACTIVITY
        ]
        await sink.write(brought, asyncio.Event())

        await until(lambda: settled(all_tenants, tenant))
        for _ in range(2):
            await following.round(asyncio.Event())

    assert await checkpoint(all_tenants) >= await position_of_the_newest(all_tenants, tenant)
    ours = {UUID(event["eventId"]) for event in stored}
    assert sorted(event_id for event_id in history.applied if event_id in ours) == sorted(ours)


@PUBLISHED_OR_NOT
async def test_round_applies_what_kafka_has_not_delivered_in_time(
    database: Database,
    all_tenants: Database,
    valkey: Redis,
    saving: Saving,
    owner: asyncpg.Connection,
    tenant: str,
    marked_published: bool,
) -> None:
    """Other processes that follow the store may have applied it before."""
    history = RecordedHistory(valkey)
    async with running_projection(all_tenants, history) as (_, following):
        user = await owner_with_properties(saving, tenant, 1)
        if marked_published:
            publish = "UPDATE user_history.event_store SET published_at = now() WHERE tenant_id = $1"
            await owner.execute(publish, tenant)
        ours = {UUID(event["eventId"]) for event in await stored_messages(all_tenants, tenant)}
        await until(lambda: settled(all_tenants, tenant))
        await following.round(asyncio.Event())
        after_one_round = ours & set(history.applied)
        await following.round(asyncio.Event())

        assert after_one_round == set()
        assert await entries(database, tenant, user) == 2
