"""The consumer loop: when it commits offsets, when it is ready, and when it is stalled."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from redis.asyncio import Redis

from adapters import kafka
from adapters.kafka import Message, Publisher
from adapters.postgres import Database
from adapters.settings import Settings
from adapters.telemetry import CONSUMERS_RECREATED, PROJECTION_STOPPED
from domain.activity import Activity
from domain.events import USER_ACTIVITY, UnreadableEvent
from projections.counts import Counted, Counts
from projections.history import History
from projections.runner import AssignmentListener, Runner
from tests.platform import until
from tests.projections.messages import RecordedHistory, consumed, entries
from tests.samples import new_id, new_tenant


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


class Failing(Counts):
    """Cannot read messages of one tenant while `fails`."""

    name = "failing"
    topics = (USER_ACTIVITY,)

    def __init__(self, tenant: str) -> None:
        self._tenant = tenant
        self.fails = True

    def read(self, topic: str, value: bytes) -> Counted | None:
        if self.fails and self._tenant.encode() in value:
            raise UnreadableEvent("fails in a test")
        return None


@pytest.fixture
async def failing(owner: asyncpg.Connection, tenant: str) -> AsyncIterator[Failing]:
    yield Failing(tenant)
    await owner.execute("DELETE FROM user_history.parked_events WHERE projection = 'failing'")
    await owner.execute("DELETE FROM user_history.checkpoints WHERE name = 'failing'")
    await owner.execute("DELETE FROM user_history.read_models WHERE name = 'failing'")


async def test_projection_that_mostly_fails_stops_alone_and_is_tried_again(
    settings: Settings,
    owner: asyncpg.Connection,
    all_tenants: Database,
    valkey: Redis,
    publisher: Publisher,
    tenant: str,
    failing: Failing,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("projections.runner._FIRST_PAUSE_SECONDS", 0.1)
    stop, history = asyncio.Event(), RecordedHistory(valkey)
    ill = Runner(settings, all_tenants, failing, f"test-{tenant}-failing")
    well = Runner(settings, all_tenants, history, f"test-{tenant}")
    stopped = PROJECTION_STOPPED.labels("failing")._value
    messages = [consumed(tenant, new_id()) for _ in range(200)]
    later = consumed(tenant, new_id())

    async def has_stopped() -> bool:
        return stopped.get() == 1 and "more than 50 of the last 100 messages fail" in str(ill.waiting_for)

    async def other_goes_on() -> bool:
        return not well.waiting_for and UUID(json.loads(later.value)["eventId"]) in history.applied

    async def is_ready() -> bool:
        return stopped.get() == 0 and not ill.waiting_for

    async with asyncio.TaskGroup() as group:
        for runner in (ill, well):
            group.create_task(runner.run(stop))
        await publisher.send([Message(one.topic, one.key.encode(), one.value, []) for one in messages])
        await until(has_stopped)
        await publisher.send([Message(later.topic, later.key.encode(), later.value, [])])
        await until(other_goes_on)
        await until(has_stopped)
        failing.fails = False
        await until(is_ready)
        stop.set()

    query = "SELECT generation FROM user_history.read_models WHERE name = 'failing'"
    assert await owner.fetchval(query) == 1, "it had no row before"


async def test_request_that_aiokafka_cancels_ends_no_projection(
    settings: Settings,
    all_tenants: Database,
    valkey: Redis,
    tenant: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stop, runner = asyncio.Event(), Runner(settings, all_tenants, History(valkey), f"test-{tenant}")
    getmany, cancelled = AIOKafkaConsumer.getmany, asyncio.Event()

    async def cancelled_once(consumer: AIOKafkaConsumer, **how: int) -> object:
        if not cancelled.is_set():
            cancelled.set()
            raise asyncio.CancelledError
        return await getmany(consumer, **how)

    monkeypatch.setattr(AIOKafkaConsumer, "getmany", cancelled_once)
    recreated = CONSUMERS_RECREATED.labels("history")._value
    before = recreated.get()
    running = asyncio.create_task(runner.run(stop))

    async def ready_again() -> bool:
        return running.done() or (recreated.get() > before and not runner.waiting_for)

    await until(ready_again)
    ended = running.done()
    stop.set()
    await asyncio.gather(running, return_exceptions=True)

    assert not ended


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
    """A rebalance in progress, which waits ten seconds until a dead member's session times out."""
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


async def test_rebalance_that_waits_for_a_dead_member_is_not_a_stall(
    settings: Settings, database: Database, all_tenants: Database, valkey: Redis, publisher: Publisher, tenant: str
) -> None:
    hasty = settings.model_copy(update={"stall_seconds": 3.0})
    user, stop, group = new_id(), asyncio.Event(), f"test-{tenant}"
    recreated = CONSUMERS_RECREATED.labels("history")._value
    before = recreated.get()
    runner = Runner(hasty, all_tenants, History(valkey), group)
    running = asyncio.create_task(runner.run(stop))
    await until(lambda: is_ready(runner))
    message = consumed(tenant, user)

    async def arrived() -> bool:
        return await entries(database, tenant, user) == 1

    async with rebalance(settings, group):
        await publisher.send([Message(message.topic, message.key.encode(), message.value, [])])
    await until(arrived)
    stop.set()
    await running

    assert recreated.get() == before


async def test_consumer_whose_rebalance_does_not_end_is_recreated(
    settings: Settings, all_tenants: Database, valkey: Redis, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No stall is detected during a rebalance, so the rebalance has a time limit."""
    stop, group = asyncio.Event(), f"test-{tenant}"
    recreated = CONSUMERS_RECREATED.labels("history")._value
    before = recreated.get()
    runner = Runner(settings, all_tenants, History(valkey), group)
    running = asyncio.create_task(runner.run(stop))
    await until(lambda: is_ready(runner))
    monkeypatch.setattr("projections.runner._JOIN_SECONDS", 1.0)

    async def was_recreated() -> bool:
        return bool(recreated.get() > before)

    async with rebalance(settings, group):
        await until(was_recreated)
    monkeypatch.undo()
    stop.set()
    await running


class RevokedConsumer(AIOKafkaConsumer):  # type: ignore[misc]
    """A consumer that loses all partitions but one while the position in that one is fetched."""

    async def position(self, partition: TopicPartition) -> int:
        found: int = await super().position(partition)
        self.unsubscribe()
        self.assign([partition])
        return found


async def test_partition_that_is_revoked_while_the_lag_is_measured_raises_nothing(
    settings: Settings, all_tenants: Database, valkey: Redis
) -> None:
    partitions = [TopicPartition(USER_ACTIVITY, n) for n in range(settings.kafka_partitions)]
    consumer = RevokedConsumer(bootstrap_servers=settings.kafka_bootstrap_servers, auto_offset_reset="earliest")
    consumer.assign(partitions)
    await consumer.start()

    async def heard_of_all() -> bool:
        await consumer.getmany(timeout_ms=100)
        return all(consumer.highwater(partition) is not None for partition in partitions)

    await until(heard_of_all)
    assignment = AssignmentListener()
    assignment.on_partitions_assigned(set(partitions))

    await Runner(settings, all_tenants, History(valkey))._measure(consumer, assignment, busy=False)

    assert len(consumer.assignment()) == 1
    await consumer.stop()


async def is_ready(runner: Runner[Activity]) -> bool:
    return not runner.waiting_for


async def state(settings: Settings, group: str) -> str:
    """The state of a consumer group."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap_servers)
    await admin.start()
    try:
        [answer] = await admin.describe_consumer_groups([group])
    finally:
        await admin.close()
    found: str = answer.groups[0][2]
    return found


async def committed(settings: Settings, group: str) -> int:
    """The sum of a group's committed offsets over all partitions."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap_servers)
    await admin.start()
    try:
        partitions = [TopicPartition(USER_ACTIVITY, n) for n in range(settings.kafka_partitions)]
        offsets = await admin.list_consumer_group_offsets(group, partitions=partitions)
    finally:
        await admin.close()
    return sum(max(0, partition.offset) for partition in offsets.values())


def test_tenants_do_not_share_a_key() -> None:
    from projections.history import cache_keys_of

    user = str(uuid4())
    assert set(cache_keys_of(new_tenant(), user, 1)).isdisjoint(cache_keys_of(new_tenant(), user, 1))
