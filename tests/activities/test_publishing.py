"""Publishing: every event reaches Kafka in order, with concurrent publishers and repetitions."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer
from sqlalchemy import select
from temporalio.testing import ActivityEnvironment

from activities.publishing import Publishing, Reconciliation
from adapters import event_store, kafka
from adapters.kafka import BrokerUnavailable, Message, Publisher
from adapters.postgres import Database, write_rows
from adapters.settings import Settings
from adapters.tables import event_store as table
from adapters.telemetry import EVENTS_UNREADABLE
from domain.command import Saved
from domain.events import PROPERTY_EVENTS, USER_ACTIVITY, new_events
from domain.property_commands import CreateProperty, decide
from tests.activities.accounts import Saving
from tests.samples import actor, create_property


class Listener:
    """Consumes the messages of one tenant."""

    def __init__(self, consumer: AIOKafkaConsumer, tenant: str) -> None:
        self._consumer = consumer
        self._tenant = tenant
        self._seen: set[tuple[str, bytes]] = set()

    async def receive(self, count: int, *, repeats: bool = False) -> list[Any]:
        """The next `count` records of the tenant, each once: a publisher that retries sends some again."""
        received: list[Any] = []
        async with asyncio.timeout(60):
            while len(received) < count:
                batches = await self._consumer.getmany(timeout_ms=200)
                for record in (record for batch in batches.values() for record in batch):
                    is_known = (record.topic, record.value) in self._seen
                    self._seen.add((record.topic, record.value))
                    if json.loads(record.value)["tenantId"] == self._tenant and (repeats or not is_known):
                        received.append(record)
        return received


@pytest.fixture
async def listener(settings: Settings, tenant: str) -> AsyncIterator[Listener]:
    consumer = kafka.consumer(settings, None, PROPERTY_EVENTS, USER_ACTIVITY)
    await consumer.start()
    yield Listener(consumer, tenant)
    await consumer.stop()


async def saved(saving: Saving, tenant: str) -> CreateProperty:
    owner = await saving.registered(tenant)
    command = create_property(tenant, owner, contactPhone="9848022338")
    await saving.property(command)
    return command


def of(command: CreateProperty, version: int = 1) -> Saved:
    """The answer to a command whose aggregate is at `version`."""
    return Saved(
        tenant_id=command.tenant_id,
        command_id=command.command_id,
        aggregate_id=command.property_id,
        version=version,
        events=(),
        resource=None,
    )


Spoil = Callable[..., Awaitable[UUID]]


@pytest.fixture
async def unreadable(settings: Settings) -> AsyncIterator[Spoil]:
    """Makes the first event of an aggregate unreadable; deletes it afterwards, because all tests share the store."""
    owner = await asyncpg.connect(settings.database_url)
    spoiled: list[str] = []

    async def spoil(aggregate_id: UUID, change: str = "event_type = 'PROPERTY_DEMOLISHED'") -> UUID:
        spoiled.append(str(aggregate_id))
        spoil_one = f"UPDATE user_history.event_store SET {change} WHERE aggregate_id = $1 RETURNING event_id"
        event_id = await owner.fetchval(spoil_one, str(aggregate_id))
        return UUID(str(event_id))

    yield spoil
    await owner.execute("DELETE FROM user_history.event_store WHERE aggregate_id = any($1)", spoiled)
    await owner.close()


async def later_version(database: Database, command: CreateProperty, version: int) -> None:
    """Store another event of the same aggregate."""
    later = create_property(command.tenant_id, command.user_id)
    [event] = new_events(later, command.property_id, version - 1, decide(None, later, actor(later.user_id)))
    async with database.transaction(command.tenant_id) as tx:
        await write_rows(tx, [event_store.event_row(event, event.data.model_dump(mode="json", by_alias=True))])


async def published_versions(database: Database, aggregate_id: UUID) -> dict[int, bool]:
    """Whether each version of an aggregate is marked published."""
    query = select(table.c.version, table.c.published_at).where(table.c.aggregate_id == str(aggregate_id))
    async with database.transaction() as tx:
        return {row.version: row.published_at is not None for row in await tx.execute(query)}


async def test_published_event_is_two_messages_with_their_keys_and_headers(
    all_tenants: Database,
    database: Database,
    saving: Saving,
    publisher: Publisher,
    listener: Listener,
    tenant: str,
) -> None:
    command = await saved(saving, tenant)

    await Publishing(all_tenants, publisher).publish(of(command))

    records = {record.topic: record for record in await listener.receive(2)}
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
    saving: Saving,
    publisher: Publisher,
    listener: Listener,
    tenant: str,
) -> None:
    command = await saved(saving, tenant)
    publishing = Publishing(all_tenants, publisher)

    assert await publishing.publish(of(command)) == 1
    await publishing.close()
    assert await publishing.publish(of(command)) == 0

    async with database.transaction(tenant) as tx:
        stored = await event_store.of_aggregate(tx, command.property_id, limit=10)
    assert await published_versions(all_tenants, command.property_id) == {1: True}
    assert [json.loads(r.value) for r in await listener.receive(2) if r.topic == PROPERTY_EVENTS] == stored


async def test_event_that_could_not_be_marked_published_is_published_again(
    all_tenants: Database,
    saving: Saving,
    settings: Settings,
    publisher: Publisher,
    listener: Listener,
    tenant: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Postgres becomes unavailable before the event is marked published: consumers get it twice."""
    command = await saved(saving, tenant)
    unreliable = Database.for_all_tenants(settings)
    nowhere = Database.for_all_tenants(
        settings.model_copy(update={"database_url": "postgresql://hyderabad@127.0.0.1:1/hyderabad"})
    )
    publishing = Publishing(unreliable, publisher)

    assert await publishing.publish(of(command)) == 1
    await unreliable.close()
    unreliable._engine = nowhere._engine
    await publishing.close()

    assert "1 published events are left to reconcile" in caplog.text
    assert await published_versions(all_tenants, command.property_id) == {1: False}
    assert await Publishing(all_tenants, publisher).publish(of(command)) == 1
    received = [
        json.loads(record.value)
        for record in await listener.receive(4, repeats=True)
        if record.topic == PROPERTY_EVENTS
    ]
    assert [event["aggregateId"] for event in received] == [str(command.property_id)] * 2
    assert received[0] == received[1]
    await nowhere.close()


async def test_later_version_is_published_after_the_earlier_ones(
    all_tenants: Database,
    database: Database,
    saving: Saving,
    publisher: Publisher,
    listener: Listener,
    tenant: str,
) -> None:
    command = await saved(saving, tenant)
    for version in (2, 3):
        await later_version(database, command, version)

    assert await Publishing(all_tenants, publisher).publish(of(command, version=3)) == 3

    events = [json.loads(r.value) for r in await listener.receive(6) if r.topic == PROPERTY_EVENTS]
    assert [event["version"] for event in events] == [1, 2, 3]


class Counting(Publisher):
    """Knows how many messages it was given at a time."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.sent: list[int] = []

    async def send(self, messages: Sequence[Message]) -> None:
        self.sent.append(len(messages))
        await super().send(messages)


async def test_thousands_of_unpublished_events_of_an_aggregate_are_published_in_order_some_at_a_time(
    all_tenants: Database,
    saving: Saving,
    settings: Settings,
    listener: Listener,
    tenant: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kafka, "_SEND_SECONDS", 30.0)  # a batch may take longer than a second on a busy machine
    command, publisher = await saved(saving, tenant), Counting(settings)
    owner = await asyncpg.connect(settings.database_url)
    await owner.execute(
        "INSERT INTO user_history.event_store (event_id, aggregate_id, user_id, event_type, event_data, timestamp,"
        " version, tenant_id, schema_version, command_id) SELECT gen_random_uuid(), aggregate_id, user_id, event_type,"
        " event_data, timestamp, version + n, tenant_id, schema_version, command_id"
        " FROM user_history.event_store, generate_series(1, 2999) n WHERE aggregate_id = $1",
        str(command.property_id),
    )
    publishing = Publishing(all_tenants, publisher)

    published = await publishing.publish(of(command, version=3000))
    await publishing.close()
    await publisher.close()
    marked = await published_versions(all_tenants, command.property_id)
    # The store is shared by all tests, and the walk through it takes 500 at a time.
    await owner.execute("DELETE FROM user_history.event_store WHERE aggregate_id = $1", str(command.property_id))
    await owner.close()

    assert published == 3000
    # Each event is two messages, of the property and of its owner.
    assert publisher.sent == [400] * 15 + [0]
    assert marked == dict.fromkeys(range(1, 3001), True)
    heard = [json.loads(r.value) for r in await listener.receive(6000) if r.topic == PROPERTY_EVENTS]
    assert [event["version"] for event in heard] == list(range(1, 3001))


async def test_broker_that_is_unavailable_leaves_everything_unpublished(
    all_tenants: Database, database: Database, saving: Saving, settings: Settings, tenant: str
) -> None:
    command = await saved(saving, tenant)
    nowhere = Publisher(settings.model_copy(update={"kafka_bootstrap_servers": "127.0.0.1:1"}))

    for _ in range(2):
        with pytest.raises(BrokerUnavailable):
            await Publishing(all_tenants, nowhere).publish(of(command))

    async with database.transaction(tenant) as tx:
        [event] = await event_store.of_command(tx, command.command_id)
    assert event.published_at is None


async def test_reconcile_publishes_events_that_their_workflow_did_not(
    saving: Saving, all_tenants: Database, publisher: Publisher, listener: Listener, tenant: str
) -> None:
    command = await saved(saving, tenant)
    reconciliation = Reconciliation(all_tenants, publisher, after_seconds=0)

    assert (await ActivityEnvironment().run(reconciliation.publish_overdue)).published >= 1
    assert (await ActivityEnvironment().run(reconciliation.publish_overdue)).published == 0

    received = [json.loads(record.value) for record in await listener.receive(3)]
    assert str(command.property_id) in {event.get("aggregateId") for event in received}


async def test_reconcile_leaves_recent_events_to_their_workflows(
    saving: Saving, all_tenants: Database, database: Database, publisher: Publisher, tenant: str
) -> None:
    command = await saved(saving, tenant)

    await ActivityEnvironment().run(Reconciliation(all_tenants, publisher, after_seconds=3600).publish_overdue)

    async with database.transaction(tenant) as tx:
        [event] = await event_store.of_command(tx, command.command_id)
    assert event.published_at is None


async def test_command_is_published_though_an_older_event_of_its_aggregate_cannot_be_read(
    all_tenants: Database,
    database: Database,
    saving: Saving,
    publisher: Publisher,
    listener: Listener,
    unreadable: Spoil,
    tenant: str,
) -> None:
    command = await saved(saving, tenant)
    await unreadable(command.property_id)
    await later_version(database, command, 2)
    publishing = Publishing(all_tenants, publisher)

    assert await publishing.publish(of(command, version=2)) == 1
    await publishing.close()
    assert await publishing.publish(of(command, version=2)) == 0

    assert await published_versions(all_tenants, command.property_id) == {1: False, 2: True}
    [event] = [json.loads(r.value) for r in await listener.receive(2) if r.topic == PROPERTY_EVENTS]
    assert event["version"] == 2


@pytest.mark.parametrize(
    "change",
    [
        "event_type = 'PROPERTY_DEMOLISHED'",
        "schema_version = 99",
        "event_data = '{}'",
        "event_data = '{\"price\": 1e400}'",
        "event_data = (repeat('[', 2000) || repeat(']', 2000))::jsonb",
        "timestamp = '-infinity'",
        "timestamp = '4000-01-01 BC'",
    ],
)
async def test_unreadable_event_does_not_stop_others_from_being_published(
    all_tenants: Database,
    database: Database,
    saving: Saving,
    publisher: Publisher,
    listener: Listener,
    unreadable: Spoil,
    tenant: str,
    caplog: pytest.LogCaptureFixture,
    change: str,
) -> None:
    """The older event of an aggregate is unreadable; its later event and those of other aggregates are published."""
    first, second = await saved(saving, tenant), await saved(saving, tenant)
    event_id = await unreadable(first.property_id, change)
    await later_version(database, first, 2)
    reconciliation = Reconciliation(all_tenants, publisher, after_seconds=0)
    skipped = EVENTS_UNREADABLE.labels("publish_overdue")._value.get()

    for _ in range(2):
        outcome = await ActivityEnvironment().run(reconciliation.publish_overdue)
        assert outcome.unreadable == 1

    assert await published_versions(all_tenants, first.property_id) == {1: False, 2: True}
    assert await published_versions(all_tenants, second.property_id) == {1: True}
    # Two registrations, which are in the topic of activities only, and the activity and event of two properties.
    received = [json.loads(r.value) for r in await listener.receive(6) if r.topic == PROPERTY_EVENTS]
    assert {(event["aggregateId"], event["version"]) for event in received} == {
        (str(first.property_id), 2),
        (str(second.property_id), 1),
    }
    assert EVENTS_UNREADABLE.labels("publish_overdue")._value.get() == skipped + 2
    lines = [record for record in caplog.records if str(event_id) in record.getMessage()]
    assert [record.levelname for record in lines] == ["ERROR", "ERROR"]


async def test_unreadable_events_that_fill_a_batch_do_not_hide_the_next(
    all_tenants: Database,
    saving: Saving,
    publisher: Publisher,
    unreadable: Spoil,
    settings: Settings,
    tenant: str,
) -> None:
    first = await saved(saving, tenant)
    await unreadable(first.property_id)
    owner = await asyncpg.connect(settings.database_url)
    # More unreadable events than one batch of the activity.
    await owner.execute(
        "INSERT INTO user_history.event_store (event_id, aggregate_id, user_id, event_type, event_data, timestamp,"
        " version, tenant_id, schema_version, command_id) SELECT gen_random_uuid(), aggregate_id, user_id, event_type,"
        " event_data, timestamp, version + n, tenant_id, schema_version, command_id"
        " FROM user_history.event_store, generate_series(1, 500) n WHERE aggregate_id = $1",
        str(first.property_id),
    )
    await owner.close()
    second = await saved(saving, tenant)

    outcome = await ActivityEnvironment().run(Reconciliation(all_tenants, publisher, after_seconds=0).publish_overdue)

    assert outcome.unreadable == 501
    assert await published_versions(all_tenants, second.property_id) == {1: True}
