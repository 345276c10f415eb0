"""The loop of a projection: what it does with messages that it cannot apply, and when it commits."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from redis.asyncio import Redis

from adapters import kafka, redis
from adapters.kafka import Message, Publisher
from adapters.postgres import Database
from adapters.settings import Settings
from adapters.telemetry import CONSUMERS_RECREATED
from domain.events import USER_ACTIVITY
from projections.history import History, HistoryPages
from projections.parking import EARLIER_IS_PARKED, ConsumedMessage, all_parked, take_out
from projections.runner import Membership, MostlyFailing, Runner
from tests.platform import until
from tests.projections.messages import consumed, entries
from tests.samples import new_id, new_tenant


@pytest.fixture
async def parked_before(all_tenants: Database) -> AsyncIterator[None]:
    yield
    async with all_tenants.transaction() as tx:
        await take_out(tx, [row.id for row in await all_parked(tx, "history")])


@pytest.fixture
def runner(settings: Settings, all_tenants: Database, valkey: Redis, parked_before: None) -> Runner:
    return Runner(settings, all_tenants, History(valkey))


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
    runner: Runner, database: Database, all_tenants: Database, tenant: str, value: bytes, reason: str
) -> None:
    failing, other = new_id(), new_id()

    await runner.take(
        [ConsumedMessage(USER_ACTIVITY, str(failing), value), consumed(tenant, failing), consumed(tenant, other)],
        asyncio.Event(),
    )

    async with all_tenants.transaction() as tx:
        parked = await all_parked(tx, "history", str(failing))
    assert [reason in parked[0].reason, parked[1].reason] == [True, EARLIER_IS_PARKED]
    assert await entries(database, tenant, failing) == 0
    assert await entries(database, tenant, other) == 1


async def test_what_the_sink_refuses_is_parked_alone(
    runner: Runner, database: Database, all_tenants: Database, tenant: str
) -> None:
    failing, other = new_id(), new_id()
    too_long = consumed(tenant, failing, activityType="X" * 200)

    await runner.take([consumed(tenant, other), too_long, consumed(tenant, other)], asyncio.Event())

    async with all_tenants.transaction() as tx:
        [parked] = await all_parked(tx, "history", str(failing))
    assert "the sink refuses it" in parked.reason
    assert await entries(database, tenant, other) == 2


async def test_victim_of_a_deadlock_is_applied_later_and_not_parked(
    runner: Runner, rival: asyncpg.Connection, database: Database, all_tenants: Database, tenant: str
) -> None:
    """The refused event has the others applied one by one, where the deadlock meets one of them."""
    failing, other = new_id(), new_id()
    too_long = consumed(tenant, failing, activityType="X" * 200)
    first, second = consumed(tenant, other), consumed(tenant, other)
    insert = """
        INSERT INTO user_history.user_activity
            (tenant_id, generation, event_id, user_id, activity_type, description, activity_data, timestamp)
        SELECT $1, generation, $2, 'rival', 'TEST', '', '{}', now() FROM user_history.read_models
    """
    await rival.execute("SET deadlock_timeout = '1min'")  # so the runner's is the one that gives way
    deadlock = rival.transaction()
    await deadlock.start()
    await rival.execute(insert, tenant, json.loads(second.value)["eventId"])
    taking = asyncio.create_task(runner.take([too_long, first, second], asyncio.Event()))

    async def runner_waits() -> bool:
        # Not in pg_stat_activity, which stays as a transaction saw it first.
        blocked = "SELECT count(*) FROM pg_locks WHERE NOT granted AND $1 = ANY(pg_blocking_pids(pid))"
        return bool(await rival.fetchval(blocked, rival.get_server_pid()))

    await until(runner_waits)
    await rival.execute(insert, tenant, json.loads(first.value)["eventId"])
    await deadlock.rollback()
    await taking

    assert await entries(database, tenant, other) == 2
    async with all_tenants.transaction() as tx:
        assert {row.key for row in await all_parked(tx, "history")} & {str(failing), str(other)} == {str(failing)}


async def test_unreadable_message_that_comes_again_is_parked_once(runner: Runner, all_tenants: Database) -> None:
    failing = str(new_id())

    for _ in range(2):
        await runner.take([ConsumedMessage(USER_ACTIVITY, failing, b"unreadable")], asyncio.Event())

    async with all_tenants.transaction() as tx:
        assert len(await all_parked(tx, "history", failing)) == 1


async def test_projection_stops_rather_than_parking_everything(runner: Runner, all_tenants: Database) -> None:
    keys = [str(new_id()) for _ in range(60)]

    with pytest.raises(MostlyFailing, match="more than 50"):
        await runner.take([ConsumedMessage(USER_ACTIVITY, key, b"unreadable") for key in keys], asyncio.Event())

    async with all_tenants.transaction() as tx:
        assert {row.key for row in await all_parked(tx, "history")}.isdisjoint(keys)


async def test_offsets_wait_until_redis_has_the_entries(
    settings: Settings, database: Database, all_tenants: Database, valkey: Redis, tenant: str
) -> None:
    """With Redis away the entry reaches Postgres; its offset is committed only when Redis can be told."""
    user = new_id()
    pages = HistoryPages(database, valkey, wait_seconds=0)
    await pages.page(tenant, str(user), 5)  # Redis knows an empty history
    away = redis.connect(settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"}))
    runner = Runner(settings, all_tenants, History(away))

    await runner.take([consumed(tenant, user)], asyncio.Event())
    current_while_away = await runner._redis_is_current()
    runner._projection = History(valkey)
    current_when_back = await runner._redis_is_current()

    assert (current_while_away, current_when_back) == (False, True)
    assert await entries(database, tenant, user) == 1
    assert len((await pages.page(tenant, str(user), 5)).entries) == 1
    await away.aclose()


async def test_message_from_kafka_reaches_the_history_and_its_offset_is_committed(
    settings: Settings, database: Database, all_tenants: Database, valkey: Redis, publisher: Publisher, tenant: str
) -> None:
    user, stop, group = new_id(), asyncio.Event(), f"test-{tenant}"
    running = asyncio.create_task(Runner(settings, all_tenants, History(valkey), group).run(stop))
    message = consumed(tenant, user)

    async def arrived() -> bool:
        return await entries(database, tenant, user) == 1

    async def is_committed() -> bool:
        return await committed(settings, group) >= 2

    await publisher.send([Message(message.topic, message.key.encode(), message.value, [])] * 2)
    await until(arrived)
    await until(is_committed)
    stop.set()
    await running


_DYING_MEMBER = """
import asyncio, os, signal, sys
from aiokafka import AIOKafkaConsumer

async def join(topic, servers, group):
    member = AIOKafkaConsumer(topic, bootstrap_servers=servers, group_id=group, session_timeout_ms=10_000)
    await member.start()
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(join(*sys.argv[1:]))
"""


@asynccontextmanager
async def rebalance(settings: Settings, group: str) -> AsyncIterator[None]:
    """A rebalance that has begun and waits for a dead member, until its session ends after ten seconds."""
    words = [sys.executable, "-c", _DYING_MEMBER, USER_ACTIVITY, settings.kafka_bootstrap_servers, group]
    dying = await asyncio.create_subprocess_exec(*words)
    assert await dying.wait() == -signal.SIGKILL
    newcomer = kafka.consumer(settings, group, USER_ACTIVITY)
    joining = asyncio.create_task(newcomer.start())

    async def begun() -> bool:
        return await state(settings, group) == "PreparingRebalance"

    await until(begun)
    try:
        yield
    finally:
        await joining
        await newcomer.stop()


async def test_rebalance_that_waits_for_a_dead_member_is_no_stall(
    settings: Settings, database: Database, all_tenants: Database, valkey: Redis, publisher: Publisher, tenant: str
) -> None:
    hasty = settings.model_copy(update={"stall_seconds": 3.0})
    user, stop, group = new_id(), asyncio.Event(), f"test-{tenant}"
    recreated = CONSUMERS_RECREATED.labels("history")._value
    before = recreated.get()
    runner = Runner(hasty, all_tenants, History(valkey), group)
    running = asyncio.create_task(runner.run(stop))
    await until(lambda: there(runner))
    message = consumed(tenant, user)

    async def arrived() -> bool:
        return await entries(database, tenant, user) == 1

    async with rebalance(settings, group):
        await publisher.send([Message(message.topic, message.key.encode(), message.value, [])])
    await until(arrived)
    stop.set()
    await running

    assert recreated.get() == before


async def test_consumer_whose_rebalance_does_not_end_is_made_anew(
    settings: Settings, all_tenants: Database, valkey: Redis, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is measured while it waits, so the wait itself has an end."""
    stop, group = asyncio.Event(), f"test-{tenant}"
    recreated = CONSUMERS_RECREATED.labels("history")._value
    before = recreated.get()
    runner = Runner(settings, all_tenants, History(valkey), group)
    running = asyncio.create_task(runner.run(stop))
    await until(lambda: there(runner))
    monkeypatch.setattr("projections.runner._JOIN_SECONDS", 1.0)

    async def made_anew() -> bool:
        return bool(recreated.get() > before)

    async with rebalance(settings, group):
        await until(made_anew)
    monkeypatch.undo()
    stop.set()
    await running


class GivenAway(AIOKafkaConsumer):  # type: ignore[misc]
    """A consumer that loses all partitions but one while it is asked where it stands in that one."""

    async def position(self, partition: TopicPartition) -> int:
        found: int = await super().position(partition)
        self.unsubscribe()
        self.assign([partition])
        return found


async def test_partition_that_leaves_while_the_lag_is_measured_ends_nothing(settings: Settings, runner: Runner) -> None:
    partitions = [TopicPartition(USER_ACTIVITY, n) for n in range(settings.kafka_partitions)]
    consumer = GivenAway(bootstrap_servers=settings.kafka_bootstrap_servers, auto_offset_reset="earliest")
    consumer.assign(partitions)
    await consumer.start()

    async def heard_of_all() -> bool:
        await consumer.getmany(timeout_ms=100)
        return all(consumer.highwater(partition) is not None for partition in partitions)

    await until(heard_of_all)
    membership = Membership()
    membership.on_partitions_assigned(set(partitions))

    await runner._measure(consumer, membership, busy=False)

    assert len(consumer.assignment()) == 1
    await consumer.stop()


async def there(runner: Runner) -> bool:
    return runner.ready


async def state(settings: Settings, group: str) -> str:
    """Where a group stands, as Kafka names it."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap_servers)
    await admin.start()
    try:
        [answer] = await admin.describe_consumer_groups([group])
    finally:
        await admin.close()
    found: str = answer.groups[0][2]
    return found


async def committed(settings: Settings, group: str) -> int:
    """How many messages a group has behind it, over all partitions."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap_servers)
    await admin.start()
    try:
        partitions = [TopicPartition(USER_ACTIVITY, n) for n in range(settings.kafka_partitions)]
        offsets = await admin.list_consumer_group_offsets(group, partitions=partitions)
    finally:
        await admin.close()
    return sum(max(0, partition.offset) for partition in offsets.values())


def test_tenants_do_not_share_a_key() -> None:
    from projections.history import _keys

    user = str(uuid4())
    assert set(_keys(new_tenant(), user, 1)).isdisjoint(_keys(new_tenant(), user, 1))
