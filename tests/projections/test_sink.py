"""Writing a batch: messages that cannot be applied, and Redis being unavailable."""

import asyncio
import json
from collections.abc import AsyncIterator

import asyncpg
import pytest
from redis.asyncio import Redis

from adapters import redis
from adapters.postgres import Database
from adapters.settings import Settings
from domain.activity import Activity
from domain.events import USER_ACTIVITY
from projections.history import History
from projections.history_pages import HistoryPages
from projections.parking import EARLIER_EVENT_PARKED, ConsumedMessage, delete_parked, list_parked
from projections.sink import FailureRate, Sink, TooManyFailures
from tests.platform import until
from tests.projections.messages import consumed, entries
from tests.samples import new_id


@pytest.fixture
async def parked_before(all_tenants: Database) -> AsyncIterator[None]:
    yield
    async with all_tenants.transaction() as tx:
        await delete_parked(tx, "history", [row.id for row in await list_parked(tx, "history")])


@pytest.fixture
def sink(all_tenants: Database, valkey: Redis, parked_before: None) -> Sink[Activity]:
    return Sink(all_tenants, History(valkey))


@pytest.fixture
async def rival(settings: Settings) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(settings.database_url)
    yield connection
    await connection.close()


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"not json", "Invalid JSON"),
        (b"{}", "eventId"),
        (b"\xff\xfe", "message"),
        (json.dumps({"eventId": "7", "userId": 1}).encode(), "eventId"),
    ],
)
async def test_unreadable_message_is_parked_with_its_reason_and_others_go_on(
    sink: Sink[Activity], database: Database, all_tenants: Database, tenant: str, value: bytes, reason: str
) -> None:
    failing, other = new_id(), new_id()

    await sink.write(
        [ConsumedMessage(USER_ACTIVITY, str(failing), value), consumed(tenant, failing), consumed(tenant, other)],
        asyncio.Event(),
    )

    async with all_tenants.transaction() as tx:
        parked = await list_parked(tx, "history", str(failing))
    assert [reason in parked[0].reason, parked[1].reason] == [True, EARLIER_EVENT_PARKED]
    assert await entries(database, tenant, failing) == 0
    assert await entries(database, tenant, other) == 1


async def test_message_that_postgres_rejects_is_parked_alone(
    sink: Sink[Activity], database: Database, all_tenants: Database, tenant: str
) -> None:
    failing, other = new_id(), new_id()
    too_long = consumed(tenant, failing, activityType="X" * 200)

    await sink.write([consumed(tenant, other), too_long, consumed(tenant, other)], asyncio.Event())

    async with all_tenants.transaction() as tx:
        [parked] = await list_parked(tx, "history", str(failing))
    assert "rejected by Postgres" in parked.reason
    assert await entries(database, tenant, other) == 2


async def test_later_events_of_a_key_are_parked_after_a_rejected_one(
    sink: Sink[Activity], database: Database, all_tenants: Database, tenant: str
) -> None:
    failing = new_id()
    too_long = consumed(tenant, failing, activityType="X" * 200)

    await sink.write([consumed(tenant, failing), too_long, consumed(tenant, failing)], asyncio.Event())

    async with all_tenants.transaction() as tx:
        parked = await list_parked(tx, "history", str(failing))
    assert ["rejected by Postgres" in parked[0].reason, parked[1].reason] == [True, EARLIER_EVENT_PARKED]
    assert await entries(database, tenant, failing) == 1


async def test_victim_of_a_deadlock_is_applied_later_and_not_parked(
    sink: Sink[Activity], rival: asyncpg.Connection, database: Database, all_tenants: Database, tenant: str
) -> None:
    """The rejected event makes the sink apply one by one, and one of the others is a deadlock's victim."""
    failing, other = new_id(), new_id()
    too_long = consumed(tenant, failing, activityType="X" * 200)
    first, second = consumed(tenant, other), consumed(tenant, other)
    insert = """
        INSERT INTO user_history.user_activity
            (tenant_id, generation, event_id, user_id, activity_type, description, activity_data, timestamp)
        SELECT $1, generation, $2, 'rival', 'TEST', '', '{}', now()
        FROM user_history.read_models WHERE name = 'history'
    """
    await rival.execute("SET deadlock_timeout = '1min'")  # so that the projection's session is the victim
    deadlock = rival.transaction()
    await deadlock.start()
    await rival.execute(insert, tenant, json.loads(second.value)["eventId"])
    taking = asyncio.create_task(sink.write([too_long, first, second], asyncio.Event()))

    async def projection_waits() -> bool:
        # pg_locks, because pg_stat_activity does not change within a transaction.
        blocked = "SELECT count(*) FROM pg_locks WHERE NOT granted AND $1 = ANY(pg_blocking_pids(pid))"
        return bool(await rival.fetchval(blocked, rival.get_server_pid()))

    await until(projection_waits)
    await rival.execute(insert, tenant, json.loads(first.value)["eventId"])
    await deadlock.rollback()
    await taking

    assert await entries(database, tenant, other) == 2
    async with all_tenants.transaction() as tx:
        assert {row.key for row in await list_parked(tx, "history")} & {str(failing), str(other)} == {str(failing)}


async def test_unreadable_message_that_comes_again_is_parked_once(sink: Sink[Activity], all_tenants: Database) -> None:
    failing = str(new_id())

    for _ in range(2):
        await sink.write([ConsumedMessage(USER_ACTIVITY, failing, b"unreadable")], asyncio.Event())

    async with all_tenants.transaction() as tx:
        assert len(await list_parked(tx, "history", failing)) == 1


async def test_parked_message_whose_fields_come_in_another_order_is_parked_once(
    sink: Sink[Activity], all_tenants: Database
) -> None:
    """The first copy is published with the save, a later one as Postgres returns the stored event."""
    failing = str(new_id())
    copies = [b'{"eventId": "1", "userId": "2"}', b'{"userId": "2", "eventId": "1"}']

    for value in copies:
        await sink.write([ConsumedMessage(USER_ACTIVITY, failing, value)], asyncio.Event())

    async with all_tenants.transaction() as tx:
        assert len(await list_parked(tx, "history", failing)) == 1


async def test_projection_stops_when_most_messages_fail(sink: Sink[Activity], all_tenants: Database) -> None:
    keys = [str(new_id()) for _ in range(60)]

    with pytest.raises(TooManyFailures, match="more than 50"):
        await sink.write([ConsumedMessage(USER_ACTIVITY, key, b"unreadable") for key in keys], asyncio.Event())

    async with all_tenants.transaction() as tx:
        assert {row.key for row in await list_parked(tx, "history")}.isdisjoint(keys)


def batches(*sizes: tuple[int, int]) -> FailureRate:
    """The rate after batches, each of so many messages of which so many fail."""
    rate = FailureRate()
    for size, failing in sizes:
        rate.add(size - failing, [(n, "unreadable") for n in range(failing)])
    return rate


@pytest.mark.parametrize(
    "sizes",
    [
        [(0, 0)],
        [(1000, 51)],
        [(1000, 500)],
        [(50, 50)],
        [(100, 0), (50, 50)],
        [(10, 5)] * 100,
        [(1000, 51)] * 10,
        [(1, 1)] * 50,
    ],
)
def test_few_failures_do_not_stop_a_projection_however_large_a_batch_is(sizes: list[tuple[int, int]]) -> None:
    batches(*sizes)


@pytest.mark.parametrize(
    "sizes",
    [[(51, 51)], [(1000, 510)], [(1000, 1000)], [(1000, 0), (51, 51)], [(10, 6)] * 10, [(1, 1)] * 51, [(500, 260)]],
)
def test_more_than_half_of_the_last_hundred_messages_stop_it(sizes: list[tuple[int, int]]) -> None:
    with pytest.raises(TooManyFailures, match="more than 50"):
        batches(*sizes)


async def test_offsets_wait_until_redis_has_the_entries(
    settings: Settings, database: Database, all_tenants: Database, valkey: Redis, tenant: str
) -> None:
    """With Redis unavailable the entry reaches Postgres; its offset is committed only when Redis can be reached."""
    user = new_id()
    pages = HistoryPages(database, valkey, wait_seconds=0)
    await pages.page(tenant, str(user), 5)  # caches an empty history
    unavailable = redis.connect(settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"}))
    sink = Sink(all_tenants, History(unavailable))

    await sink.write([consumed(tenant, user)], asyncio.Event())
    current_while_unavailable = await sink.cache_is_current()
    sink._projection = History(valkey)
    current_when_back = await sink.cache_is_current()

    assert (current_while_unavailable, current_when_back) == (False, True)
    assert await entries(database, tenant, user) == 1
    assert len((await pages.page(tenant, str(user), 5)).entries) == 1
    await unavailable.aclose()
