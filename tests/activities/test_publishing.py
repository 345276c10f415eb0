"""Publishing: every event reaches Kafka, in order, whoever publishes and however often."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from sqlalchemy import update
from temporalio.testing import ActivityEnvironment

from activities.publishing import Published, Publishing, Reconciliation, ripe
from activities.saving import Ledger
from adapters import event_store, kafka
from adapters.event_store import Position
from adapters.kafka import BrokerAway, Publisher
from adapters.postgres import Database, insert_rows
from adapters.sealing import Keyring
from adapters.settings import Settings
from adapters.tables import event_store as table
from domain.events import PROPERTY_EVENTS, USER_ACTIVITY, recorded
from domain.property import CreateProperty, decide
from tests.activities.accounts import registered, saving
from tests.samples import create_property

pytestmark = pytest.mark.kafka


class Listener:
    """Reads what is published about one tenant."""

    def __init__(self, consumer: AIOKafkaConsumer, tenant: str) -> None:
        self._consumer = consumer
        self._tenant = tenant

    async def hear(self, count: int) -> list[Any]:
        """The next `count` records about the tenant."""
        heard: list[Any] = []
        async with asyncio.timeout(20):
            while len(heard) < count:
                batches = await self._consumer.getmany(timeout_ms=200)
                records = [record for batch in batches.values() for record in batch]
                heard += [record for record in records if json.loads(record.value)["tenantId"] == self._tenant]
        return heard


@pytest.fixture
async def listener(settings: Settings, tenant: str) -> AsyncIterator[Listener]:
    consumer = kafka.consumer(settings, None, PROPERTY_EVENTS, USER_ACTIVITY)
    await consumer.start()
    yield Listener(consumer, tenant)
    await consumer.stop()


async def saved(ledger: Ledger, keyring: Keyring, tenant: str) -> CreateProperty:
    owner = await registered(ledger, keyring, tenant)
    command = create_property(tenant, owner, contactPhone="9848022338")
    await saving(ledger).save_property(command)
    return command


def of(command: CreateProperty, version: int = 1) -> Published:
    return Published(tenant_id=command.tenant_id, aggregate_id=command.property_id, version=version)


async def test_published_event_is_two_messages_with_their_keys_and_headers(
    all_tenants: Database,
    database: Database,
    ledger: Ledger,
    keyring: Keyring,
    publisher: Publisher,
    listener: Listener,
    tenant: str,
) -> None:
    command = await saved(ledger, keyring, tenant)

    await Publishing(all_tenants, publisher).publish(of(command))

    records = {record.topic: record for record in await listener.hear(2)}
    event, activity = (json.loads(records[topic].value) for topic in (PROPERTY_EVENTS, USER_ACTIVITY))
    assert records[PROPERTY_EVENTS].key == str(command.property_id).encode()
    assert records[USER_ACTIVITY].key == str(command.user_id).encode()
    assert (event["eventType"], event["data"]["title"]) == ("PROPERTY_CREATED", command.details.title)
    assert event["data"]["contactPhone"].keys() == {"sealed"}
    assert activity["description"] == "User created property: 3BHK Apartment in Gachibowli"
    headers = dict(records[PROPERTY_EVENTS].headers)
    assert headers["ce_id"].decode() == event["eventId"]
    assert headers["traceparent"].decode().split("-")[1] == command.command_id.hex


async def test_publishing_twice_publishes_once(
    all_tenants: Database,
    database: Database,
    ledger: Ledger,
    keyring: Keyring,
    publisher: Publisher,
    listener: Listener,
    tenant: str,
) -> None:
    command = await saved(ledger, keyring, tenant)
    publishing = Publishing(all_tenants, publisher)

    assert await publishing.publish(of(command)) == 1
    assert await publishing.publish(of(command)) == 0

    async with database.transaction(tenant) as tx:
        [event] = await event_store.of_command(tx, command.command_id)
    assert event.published_at is not None
    assert len(await listener.hear(2)) == 2


async def test_new_aggregate_is_published_while_it_is_saved(
    all_tenants: Database,
    database: Database,
    keyring: Keyring,
    publisher: Publisher,
    listener: Listener,
    tenant: str,
) -> None:
    publishing = Publishing(all_tenants, publisher)
    ledger = Ledger(database, keyring, publishing.at_once)
    owner = await registered(ledger, keyring, tenant)
    command = create_property(tenant, owner, contactPhone="9848022338")

    answer = await saving(ledger).save_property(command)
    await publishing.close()

    async with database.transaction(tenant) as tx:
        stored = await event_store.of_aggregate(tx, command.property_id, limit=10)
        events = await event_store.of_command(tx, command.command_id)
    heard = [json.loads(record.value) for record in await listener.hear(3) if record.topic == PROPERTY_EVENTS]
    assert answer.published
    assert heard == stored
    assert events[0].published_at is not None
    assert not (await saving(ledger).save_property(command)).published  # whoever asks again leaves it to the workflow


async def test_event_that_could_not_be_marked_is_published_once_more(
    all_tenants: Database,
    database: Database,
    keyring: Keyring,
    settings: Settings,
    publisher: Publisher,
    listener: Listener,
    tenant: str,
) -> None:
    """Postgres goes away between the broker's answer and the mark: readers hear the same event twice."""
    nowhere = Database.for_all_tenants(
        settings.model_copy(update={"database_url": "postgresql://hyderabad@127.0.0.1:1/hyderabad"})
    )
    publishing = Publishing(nowhere, publisher)
    ledger = Ledger(database, keyring, publishing.at_once)
    owner = await registered(ledger, keyring, tenant)
    command = create_property(tenant, owner)

    answer = await saving(ledger).save_property(command)
    await publishing.close()

    assert answer.published
    assert await Publishing(all_tenants, publisher).publish(of(command)) == 1
    heard = [json.loads(record.value) for record in await listener.hear(5) if record.topic == PROPERTY_EVENTS]
    assert [event["aggregateId"] for event in heard] == [str(command.property_id)] * 2
    assert heard[0] == heard[1]


async def test_broker_that_is_away_leaves_publishing_to_the_workflow(
    all_tenants: Database,
    database: Database,
    ledger: Ledger,
    keyring: Keyring,
    settings: Settings,
    publisher: Publisher,
    listener: Listener,
    tenant: str,
) -> None:
    nobody = Publisher(settings.model_copy(update={"kafka_bootstrap_servers": "127.0.0.1:1"}))
    owner = await registered(ledger, keyring, tenant)
    command = create_property(tenant, owner)

    answer = await saving(Ledger(database, keyring, Publishing(all_tenants, nobody).at_once)).save_property(command)

    assert not answer.published
    assert await Publishing(all_tenants, publisher).publish(of(command)) == 1
    assert len(await listener.hear(2)) == 2


async def test_later_version_is_published_behind_the_earlier_ones(
    all_tenants: Database,
    database: Database,
    ledger: Ledger,
    keyring: Keyring,
    publisher: Publisher,
    listener: Listener,
    tenant: str,
) -> None:
    command = await saved(ledger, keyring, tenant)
    async with database.transaction(tenant) as tx:
        for version in (2, 3):
            later = create_property(tenant, command.user_id)
            [event] = recorded(later, command.property_id, version - 1, decide(None, later))
            await insert_rows(tx, [event_store.event_row(event, event.data.model_dump(mode="json", by_alias=True))])

    assert await Publishing(all_tenants, publisher).publish(of(command, version=3)) == 3

    events = [json.loads(r.value) for r in await listener.hear(6) if r.topic == PROPERTY_EVENTS]
    assert [event["version"] for event in events] == [1, 2, 3]


async def test_broker_that_is_away_marks_nothing_and_is_told(
    all_tenants: Database, database: Database, ledger: Ledger, keyring: Keyring, settings: Settings, tenant: str
) -> None:
    command = await saved(ledger, keyring, tenant)
    nowhere = Publisher(settings.model_copy(update={"kafka_bootstrap_servers": "127.0.0.1:1"}))

    for _ in range(2):
        with pytest.raises(BrokerAway):
            await Publishing(all_tenants, nowhere).publish(of(command))

    async with database.transaction(tenant) as tx:
        [event] = await event_store.of_command(tx, command.command_id)
    assert event.published_at is None


async def test_reconciling_publishes_what_its_workflow_did_not(
    ledger: Ledger, keyring: Keyring, all_tenants: Database, publisher: Publisher, listener: Listener, tenant: str
) -> None:
    command = await saved(ledger, keyring, tenant)
    reconciliation = Reconciliation(all_tenants, publisher, after_seconds=0)

    assert await ActivityEnvironment().run(reconciliation.publish_overdue) >= 1
    assert await ActivityEnvironment().run(reconciliation.publish_overdue) == 0

    heard = [json.loads(record.value) for record in await listener.hear(3)]
    assert str(command.property_id) in {event.get("aggregateId") for event in heard}


async def test_reconciling_leaves_young_events_to_their_workflows(
    ledger: Ledger, keyring: Keyring, all_tenants: Database, database: Database, publisher: Publisher, tenant: str
) -> None:
    command = await saved(ledger, keyring, tenant)

    await ActivityEnvironment().run(Reconciliation(all_tenants, publisher, after_seconds=3600).publish_overdue)

    async with database.transaction(tenant) as tx:
        [event] = await event_store.of_command(tx, command.command_id)
    assert event.published_at is None


async def test_reconciling_sends_again_what_kafka_lost(
    ledger: Ledger, keyring: Keyring, all_tenants: Database, publisher: Publisher, listener: Listener, tenant: str
) -> None:
    """Marked as published, never projected: as after a broker that forgot."""
    command = await saved(ledger, keyring, tenant)
    async with all_tenants.transaction() as tx:
        await tx.execute(update(table).where(table.c.tenant_id == tenant).values(published_at=table.c.timestamp))
    reconciliation = Reconciliation(all_tenants, publisher, after_seconds=0)

    assert await ActivityEnvironment().run(reconciliation.republish_unprojected) >= 1

    # Two activities, of the registration and of the property, and the property's event, in any order.
    heard = [json.loads(record.value) for record in await listener.hear(3)]
    assert str(command.property_id) in {event.get("aggregateId") for event in heard}


def test_checkpoint_does_not_pass_a_young_event_for_an_old_one_behind_it() -> None:
    moment = datetime(2024, 1, 15, 10, 30, tzinfo=UTC)
    events = [
        (Position(n, n), {"timestamp": (moment + timedelta(seconds=offset)).isoformat()})
        for n, offset in enumerate((-20, 5, -60))
    ]

    assert ripe(events, moment) == events[:1]
