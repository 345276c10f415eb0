"""Publishing stored events again: which are published, how they are marked, and that projections stay right."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord
from redis.asyncio import Redis

from adapters import event_store, kafka
from adapters.event_store import Position, Range
from adapters.kafka import Publisher
from adapters.postgres import Database
from adapters.settings import Settings
from domain.events import TOPICS, Event
from projections.registry import PROJECTIONS, Clients
from projections.republish import REPLAY_HEADER, Republished, republish
from projections.runner import _consumed
from projections.sink import Sink
from tests.platform import until
from tests.projections.messages import store, stored_messages
from tests.projections.test_every_projection import rows, serving
from tests.samples import event_of_each_kind, new_id


@pytest.fixture
async def events(database: Database, tenant: str) -> list[Event]:
    made = event_of_each_kind(tenant, new_id(), new_id(), without=("USER_DELETED",))
    await store(database, tenant, made)
    return made


@pytest.fixture
async def consumer(settings: Settings) -> AsyncIterator[AIOKafkaConsumer]:
    """Reads every topic from its present end."""
    await kafka.ensure_topics(settings)
    consumer = kafka.consumer(settings, None, *TOPICS)
    await consumer.start()
    await consumer.seek_to_end()
    for partition in consumer.assignment():
        await consumer.position(partition)
    yield consumer
    await consumer.stop()


async def replayed(consumer: AIOKafkaConsumer, replay_id: UUID, expected: set[str]) -> list[ConsumerRecord]:
    """The messages of a replay, once those of the expected events are among them."""
    mark, found = (REPLAY_HEADER, str(replay_id).encode()), list[ConsumerRecord]()

    async def enough() -> bool:
        for records in (await consumer.getmany(timeout_ms=200)).values():
            found.extend(record for record in records if mark in record.headers)
        return ids_of(found) >= expected

    await until(enough)
    return found


async def published(all_tenants: Database, publisher: Publisher, which: Range) -> tuple[UUID, Republished]:
    replay_id, progress = new_id(), list[Republished]()
    done = await republish(all_tenants, publisher, which, replay_id, progress.append)
    assert not progress or progress[-1] == done
    return replay_id, done


def ids_of(messages: list[ConsumerRecord]) -> set[str]:
    return {dict(message.headers)["ce_id"].decode() for message in messages}


async def test_range_is_published_again_with_a_mark_and_changes_no_read_model(
    all_tenants: Database,
    publisher: Publisher,
    consumer: AIOKafkaConsumer,
    valkey: Redis,
    tenant: str,
    events: list[Event],
) -> None:
    projections = [make(Clients(valkey)) for make in PROJECTIONS.values()]

    async def project(messages: list[ConsumerRecord]) -> list[Any]:
        dumps = []
        for projection in projections:
            of_topics = [_consumed(message) for message in messages if message.topic in projection.topics]
            await Sink(all_tenants, projection).write(of_topics, asyncio.Event())
            dumps.append(await rows(all_tenants, projection, tenant, await serving(all_tenants, projection)))
        return dumps

    expected = {str(one.event_id) for one in events}
    which = Range(since=min(one.timestamp for one in events), types=tuple({one.event_type for one in events}))
    dumps = []
    for _ in range(2):
        replay_id, done = await published(all_tenants, publisher, which)
        messages = [
            message
            for message in await replayed(consumer, replay_id, expected)
            if dict(message.headers)["ce_source"] == f"/hyderabad-infra/{tenant}".encode()
        ]
        dumps.append(await project(messages))

    assert ids_of(messages) == expected
    assert done.events >= len(events)
    assert done.events_per_second > 0
    assert any(dumps[0])
    assert dumps[0] == dumps[1]


async def test_aggregate_or_type_or_time_or_place_limits_what_is_published(
    all_tenants: Database, publisher: Publisher, consumer: AIOKafkaConsumer, events: list[Event]
) -> None:
    listing = next(one.aggregate_id for one in events if one.event_type == "PROPERTY_CREATED")
    of_listing = {str(one.event_id) for one in events if one.aggregate_id == listing}
    created = {str(one.event_id) for one in events if one.event_type == "PROPERTY_CREATED"}
    last = max(one.timestamp for one in events)

    for which, expected in (
        (Range(aggregate_id=listing), of_listing),
        (Range(aggregate_id=listing, types=("PROPERTY_CREATED",)), created),
    ):
        replay_id, done = await published(all_tenants, publisher, which)
        assert done.events == len(expected)
        assert ids_of(await replayed(consumer, replay_id, expected)) == expected

    _, done = await published(all_tenants, publisher, Range(since=last + timedelta(days=36_500)))
    assert done.events == 0

    _, done = await published(all_tenants, publisher, Range(after=done.position))
    assert done.events == 0


async def test_windows_without_a_match_are_passed(
    all_tenants: Database, tenant: str, events: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_store, "_WINDOW", 3)
    listing = next(one for one in events if one.event_type == "PROPERTY_DELETED")
    found: list[dict[str, Any]] = []
    place: Position | None = Position()
    async with all_tenants.statements() as connection:
        which = Range(since=listing.timestamp, until=listing.timestamp + timedelta(microseconds=1))
        while place is not None:
            page, place = await event_store.of_range(connection, which, place, 2)
            found += [message for _, message in page]
        [end] = [
            position
            for position, message in await event_store.visible_between(connection, None, None, Position(), 100_000)
            if message["eventId"] == str(events[0].event_id)
        ]
        up_to, _ = await event_store.of_range(connection, Range(up_to=end), Position(end.tx_id, end.id - 1), 10)

    assert [message["eventId"] for message in found if message["tenantId"] == tenant] == [str(listing.event_id)]
    assert [message["eventId"] for _, message in up_to] == [str(events[0].event_id)]
    assert len(await stored_messages(all_tenants, tenant)) == len(events)
