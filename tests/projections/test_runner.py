"""The loop of a projection on Kafka: when it commits, when it is ready, and what it takes for a stall."""

import asyncio
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from redis.asyncio import Redis

from adapters.kafka import BrokerAway, Message, Publisher
from adapters.postgres import Database
from adapters.settings import Settings
from adapters.telemetry import CONSUMERS_RECREATED
from domain.activity import Activity
from domain.events import USER_ACTIVITY
from projections.history import History
from projections.runner import Membership, Runner
from tests.platform import until
from tests.projections.messages import consumed, entries
from tests.samples import new_id, new_tenant


@pytest.mark.kafka
async def test_message_from_kafka_reaches_the_history_and_its_offset_is_committed(
    settings: Settings, database: Database, all_tenants: Database, valkey: Redis, publisher: Publisher, tenant: str
) -> None:
    user, stop, group = new_id(), asyncio.Event(), f"test-{tenant}"
    running = asyncio.create_task(Runner(settings, all_tenants, History(valkey), group).run(stop))
    message = consumed(tenant, user)

    async def sent() -> bool:
        """As a workflow sends: again when the broker did not take it (the embedded one sometimes answers -1)."""
        try:
            await publisher.send([Message(message.topic, message.key.encode(), message.value, [])] * 2)
        except BrokerAway:
            return False
        return True

    async def arrived() -> bool:
        return await entries(database, tenant, user) == 1

    async def is_committed() -> bool:
        return await committed(settings, group) >= 2

    await until(sent)
    await until(arrived)
    await until(is_committed)
    stop.set()
    await running


@pytest.mark.kafka
async def test_gathering_of_a_group_is_no_stall(
    settings: Settings, database: Database, all_tenants: Database, valkey: Redis, publisher: Publisher, tenant: str
) -> None:
    """The embedded broker lets members gather for five seconds; a watchdog that took it for silence left the group,
    which made it gather again, and so on."""
    hasty = settings.model_copy(update={"stall_seconds": 3.0})
    user, stop, group = new_id(), asyncio.Event(), f"test-{tenant}"
    recreated = CONSUMERS_RECREATED.labels("history")._value
    before = recreated.get()
    first, second = (Runner(hasty, all_tenants, History(valkey), group) for _ in range(2))
    running = [asyncio.create_task(first.run(stop))]
    await until(lambda: there(first))
    running.append(asyncio.create_task(second.run(stop)))
    await until(lambda: there(second))
    message = consumed(tenant, user)

    async def arrived() -> bool:
        return await entries(database, tenant, user) == 1

    await publisher.send([Message(message.topic, message.key.encode(), message.value, [])])
    await until(arrived, seconds=60)
    stop.set()
    await asyncio.gather(*running)

    assert recreated.get() == before


class GivenAway(AIOKafkaConsumer):  # type: ignore[misc]
    """A consumer that loses all partitions but one while it is asked where it stands in that one."""

    async def position(self, partition: TopicPartition) -> int:
        found: int = await super().position(partition)
        self.unsubscribe()
        self.assign([partition])
        return found


@pytest.mark.kafka
async def test_partition_that_leaves_while_the_lag_is_measured_ends_nothing(
    settings: Settings, all_tenants: Database, valkey: Redis
) -> None:
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

    await Runner(settings, all_tenants, History(valkey))._measure(consumer, membership, busy=False)

    assert len(consumer.assignment()) == 1
    await consumer.stop()


async def there(runner: Runner[Activity]) -> bool:
    return not runner.waiting_for


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
