"""The projection of live messages: each once, to those whom it concerns, and no old ones."""

import asyncio
import random
from typing import Any
from uuid import UUID

import orjson
import pytest
from redis.asyncio import Redis

from adapters import event_store
from adapters.live import LiveStreams, property_stream, user_stream
from adapters.postgres import Database
from adapters.redis import RedisError
from domain.activity import activity_of
from domain.events import WHOLE_PROPERTY, Event
from domain.observations import ANONYMOUS, UserNotified
from domain.property_events import PropertyFact, PropertyStatusChanged
from projections.history import entry_json
from projections.live import Live, messages_of
from projections.projection import as_consumed
from projections.rebuild import rebuild
from projections.sink import Sink
from tests.projections.messages import catch_up, store, stored_messages
from tests.samples import event_of_each_kind, new_id


@pytest.fixture
def user() -> UUID:
    return new_id()


@pytest.fixture
def listing() -> UUID:
    return new_id()


@pytest.fixture
async def stored(
    database: Database, all_tenants: Database, tenant: str, user: UUID, listing: UUID
) -> list[dict[str, Any]]:
    """An event of each kind, stored and not published."""
    await store(database, tenant, event_of_each_kind(tenant, user, listing))
    return await stored_messages(all_tenants, tenant)


async def received(valkey: Redis, *streams: str) -> list[tuple[str, bytes]]:
    """Type and data of the messages in streams."""
    entries = (await LiveStreams(valkey).open(dict.fromkeys(streams, "0-0"))).entries
    return [(entry.type, entry.data) for entry in entries if entry.type]


def of_every_event(tenant: str, user: UUID, listing: UUID) -> list[Event]:
    return event_of_each_kind(tenant, user, listing)


def test_every_entry_of_the_history_is_a_message_to_its_user(tenant: str, user: UUID, listing: UUID) -> None:
    for event in of_every_event(tenant, user, listing):
        entries = [message for message in messages_of(event) if message.type == "history"]
        activity = activity_of(event)
        assert [entry.data for entry in entries] == ([entry_json(activity)] if activity else [])
        assert {entry.stream for entry in entries} <= {user_stream(tenant, event.user_id)}


def test_command_is_published_once_whatever_events_it_has(tenant: str, user: UUID, listing: UUID) -> None:
    for event in of_every_event(tenant, user, listing):
        commands = [message for message in messages_of(event) if message.type == "command"]
        assert len(commands) == (event.version > 0), "an observation is no command"
        if commands:
            second = event.model_copy(update={"event_id": new_id(), "version": event.version + 1})
            assert commands[0].key in {message.key for message in messages_of(second)}


def test_notification_goes_to_the_one_who_is_notified(tenant: str, user: UUID, listing: UUID) -> None:
    [event] = [one for one in of_every_event(tenant, user, listing) if isinstance(one.data, UserNotified)]
    recipient = new_id()
    event = event.model_copy(update={"data": event.data.model_copy(update={"user_id": recipient})})

    [message] = messages_of(event)

    assert (message.type, message.stream) == ("notification", user_stream(tenant, recipient))
    assert orjson.loads(message.data)["id"] == str(event.event_id)


def test_change_of_a_listing_has_neither_contact_data_nor_why(tenant: str, user: UUID, listing: UUID) -> None:
    changes = [event for event in of_every_event(tenant, user, listing) if isinstance(event.data, PropertyFact)]
    for event in changes:
        [change] = [message for message in messages_of(event) if message.type == "property"]
        assert change.stream == property_stream(tenant, listing)
        assert b"contact" not in change.data
        if isinstance(event.data, PropertyStatusChanged):
            explained = event.model_copy(update={"data": event.data.model_copy(update={"reason": "Sold to Ravi"})})
            assert [message.data for message in messages_of(explained) if message.type == "property"] == [change.data]
            assert b"romStatus" not in change.data
    assert len(changes) == len(WHOLE_PROPERTY) + 1  # and that it is deleted


@pytest.mark.parametrize("seed", range(5))
async def test_repeats_in_any_order_send_each_message_once(
    all_tenants: Database,
    valkey: Redis,
    tenant: str,
    stored: list[dict[str, Any]],
    user: UUID,
    listing: UUID,
    seed: int,
) -> None:
    streams = [user_stream(tenant, user), property_stream(tenant, listing)]
    await LiveStreams(valkey).open(dict.fromkeys(streams))
    chance, projection = random.Random(seed), Live(valkey)
    messages = as_consumed(projection, stored, where="test").messages
    deliveries = messages * 2
    chance.shuffle(deliveries)

    sink = Sink(all_tenants, projection)
    while deliveries:
        size = chance.randint(1, len(deliveries))
        await sink.write(deliveries[:size], asyncio.Event())
        deliveries = deliveries[size:]

    events = [projection.read(message.topic, message.value) for message in messages]
    expected = {(one.type, one.key): one.data for event in events if event for one in event.messages}
    assert sorted(await received(valkey, *streams)) == sorted((type, data) for (type, _), data in expected.items())


async def test_events_that_the_checkpoint_has_passed_are_not_published_again(
    all_tenants: Database, valkey: Redis, tenant: str, stored: list[dict[str, Any]], user: UUID, listing: UUID
) -> None:
    """Published again by an operator, or read again by a consumer group that has lost its offsets."""
    projection, stream = Live(valkey), user_stream(tenant, user)
    await catch_up(all_tenants, projection)
    await LiveStreams(valkey).open({stream: None})
    async with all_tenants.statements() as connection:
        at = await event_store.checkpoint(connection, projection.name)
        [(newest, _)] = (await event_store.visible_between(connection, None, None, at, 100_000))[-1:] or [(at, {})]
        await event_store.move_checkpoint(connection, projection.name, newest)

    await Sink(all_tenants, projection).write(as_consumed(projection, stored, where="test").messages, asyncio.Event())

    assert await received(valkey, stream) == []


async def test_rebuild_publishes_nothing(
    all_tenants: Database, valkey: Redis, tenant: str, stored: list[dict[str, Any]], user: UUID
) -> None:
    stream = user_stream(tenant, user)
    await LiveStreams(valkey).open({stream: None})

    await rebuild(all_tenants, Live(valkey), lambda _: None)

    assert await received(valkey, stream) == []


async def test_events_that_kafka_lost_are_published_by_catching_up(
    all_tenants: Database, valkey: Redis, tenant: str, user: UUID, listing: UUID, database: Database
) -> None:
    stream = user_stream(tenant, user)
    await LiveStreams(valkey).open({stream: None})
    await store(database, tenant, event_of_each_kind(tenant, user, listing, without=("USER_DELETED",)))

    await catch_up(all_tenants, Live(valkey))

    assert {type for type, _ in await received(valkey, stream)} == {"history", "command", "notification"}


class Failing(Live):
    """Cannot write to Redis."""

    async def update_cache(self, events: Any, generation: int) -> None:
        raise RedisError("unavailable")


async def test_subscribers_are_reset_when_redis_was_unavailable(
    all_tenants: Database, valkey: Redis, tenant: str, stored: list[dict[str, Any]], user: UUID
) -> None:
    stream = user_stream(tenant, user)
    await LiveStreams(valkey).open({stream: None})
    projection = Failing(valkey)
    sink = Sink(all_tenants, projection)

    for _ in range(2):
        await sink.write(as_consumed(projection, stored, where="test").messages, asyncio.Event())
        assert sink.has_stale_cache
        assert await sink.cache_is_current()

    assert await received(valkey, stream) == [("reset", b"{}")] * 2


async def test_views_of_visitors_are_read_by_nobody(valkey: Redis, tenant: str, user: UUID, listing: UUID) -> None:
    [event] = [one for one in of_every_event(tenant, user, listing) if one.event_type == "PROPERTY_VIEWED"]
    view = event.model_copy(update={"user_id": ANONYMOUS})

    assert Live(valkey).read("property-events", view.model_dump_json(by_alias=True).encode()) is None
