"""Publishing when the broker does not acknowledge: no producer leaks."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from adapters.kafka import BrokerUnavailable, Message, Publisher
from adapters.settings import Settings
from tests.platform import until


@pytest.fixture
async def admin(settings: Settings) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap_servers)
    await admin.start()
    yield admin
    await admin.close()


async def test_producer_is_stopped_when_the_broker_has_lost_the_topic(
    settings: Settings, admin: AIOKafkaAdminClient
) -> None:
    """An idempotent producer retries for ever, and each failure creates another producer."""
    publisher, topic = Publisher(settings), f"forgotten-{uuid4().hex}"
    await admin.create_topics([NewTopic(topic, 1, 1)])
    before = asyncio.all_tasks()
    message = Message(topic, b"key", b"value", [])
    await publisher.send([message])
    await admin.delete_topics([topic])

    async def refused() -> bool:
        try:
            await publisher.send([message])
        except BrokerUnavailable:
            return True
        return False

    async def nothing_runs_on() -> bool:
        return asyncio.all_tasks() <= before

    await until(refused)
    await until(nothing_runs_on)
