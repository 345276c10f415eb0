"""Observations in the event store and in Kafka: each once, and anonymous without an account."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from sqlalchemy import select

from activities.observations import Observations
from activities.publishing import Publishing
from adapters import kafka
from adapters.event_store import message_of
from adapters.kafka import Publisher, messages_of
from adapters.postgres import Database
from adapters.settings import Settings
from adapters.tables import event_store as table
from domain.events import PROPERTY_EVENTS, USER_ACTIVITY, USER_EVENTS
from domain.observations import ANONYMOUS
from projections.history_pages import readable as activities_of
from tests.activities.accounts import Saving
from tests.activities.test_publishing import Listener
from tests.samples import create_property, login, new_id, record_activity, view


@pytest.fixture
def observations(database: Database) -> Observations:
    return Observations(database, lambda pending: None)


@pytest.fixture
async def publishing(all_tenants: Database, publisher: Publisher) -> AsyncIterator[Publishing]:
    publishing = Publishing(all_tenants, publisher)
    yield publishing
    await publishing.close()


@pytest.fixture
async def listener(settings: Settings, tenant: str) -> AsyncIterator[Listener]:
    consumer: AIOKafkaConsumer = kafka.consumer(settings, None, PROPERTY_EVENTS, USER_EVENTS, USER_ACTIVITY)
    await consumer.start()
    yield Listener(consumer, tenant)
    await consumer.stop()


async def stored(database: Database, tenant: str) -> list[Any]:
    async with database.transaction(tenant) as tx:
        return list(await tx.execute(select(table).where(table.c.tenant_id == tenant).order_by(table.c.id)))


async def test_batch_that_is_saved_twice_is_stored_once(
    observations: Observations, database: Database, tenant: str
) -> None:
    batch = record_activity(tenant, view(new_id()), view(new_id(), new_id()), login(new_id()))

    first, second = [await observations.save_observations(batch) for _ in range(2)]

    assert first == second
    found = await stored(database, tenant)
    assert {row.event_id for row in found} == {one.event_id for one in batch.observations}
    assert len(found) == 3
    assert {row.command_id for row in found} == {batch.command_id}


async def test_observation_repeated_in_another_batch_is_not_stored_again(
    observations: Observations, database: Database, tenant: str
) -> None:
    repeated = view(new_id())
    first = record_activity(tenant, repeated)
    later = repeated.model_copy(update={"timestamp": datetime.now(UTC) + timedelta(minutes=1)})

    await observations.save_observations(first)
    await observations.save_observations(record_activity(tenant, later, view(new_id()), later))

    found = {row.event_id: row for row in await stored(database, tenant)}
    assert len(found) == 2
    assert found[repeated.event_id].timestamp == repeated.timestamp
    assert found[repeated.event_id].command_id == first.command_id


async def test_many_views_of_one_listing_leave_its_version_alone(
    observations: Observations, saving: Saving, database: Database, tenant: str
) -> None:
    owner = await saving.registered(tenant)
    command = create_property(tenant, owner)
    await saving.property(command)

    await observations.save_observations(record_activity(tenant, *(view(command.property_id) for _ in range(3))))

    versions = [row.version for row in await stored(database, tenant) if row.aggregate_id == str(command.property_id)]
    assert versions == [1, 0, 0, 0]


async def test_batch_is_published_with_an_activity_for_each_user_with_an_account(
    observations: Observations, publishing: Publishing, listener: Listener, tenant: str
) -> None:
    listing, visitor = new_id(), new_id()
    batch = record_activity(tenant, view(listing), view(listing, visitor), login(visitor))
    recorded = await observations.save_observations(batch)

    count = await publishing.publish_observations(recorded)

    received = await listener.receive(5)
    events = [json.loads(record.value) for record in received if record.topic != USER_ACTIVITY]
    activities = {
        (record.key.decode(), json.loads(record.value)["description"])
        for record in received
        if record.topic == USER_ACTIVITY
    }
    assert count == 3
    assert sorted((event["eventType"], event["userId"], event["version"]) for event in events) == sorted(
        [
            ("PROPERTY_VIEWED", str(ANONYMOUS), 0),
            ("PROPERTY_VIEWED", str(visitor), 0),
            ("USER_LOGGED_IN", str(visitor), 0),
        ]
    )
    assert activities == {
        (str(visitor), "User viewed property: A flat by the lake"),
        (str(visitor), "User logged in"),
    }


async def test_batch_that_is_published_is_not_published_again(
    observations: Observations, all_tenants: Database, publisher: Publisher, tenant: str
) -> None:
    recorded = await observations.save_observations(record_activity(tenant, view(new_id()), view(new_id())))

    counts = []
    for _ in range(2):
        publishing = Publishing(all_tenants, publisher)
        counts.append(await publishing.publish_observations(recorded))
        await publishing.close()  # marks the events published

    assert counts == [2, 0]


async def test_publishing_a_command_leaves_the_views_of_its_listing_to_their_batch(
    observations: Observations, publishing: Publishing, saving: Saving, tenant: str
) -> None:
    command = create_property(tenant, await saving.registered(tenant))
    saved = await saving.property(command)
    await observations.save_observations(record_activity(tenant, *(view(command.property_id) for _ in range(3))))

    assert await publishing.publish(saved) == 1


async def test_anonymous_view_is_in_no_history(observations: Observations, all_tenants: Database, tenant: str) -> None:
    await observations.save_observations(record_activity(tenant, view(new_id())))

    [row] = await stored(all_tenants, tenant)
    message = message_of({**row._mapping, "event_data": json.dumps(row.event_data)})
    assert activities_of([message], where="test") == []
    assert [record.topic for record in messages_of(message)] == [PROPERTY_EVENTS]
