"""Tests of every registered projection: repeats, any order, parking, catching up and rebuild."""

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from redis.asyncio import Redis
from sqlalchemy import select

from adapters.postgres import Database
from domain.events import KINDS
from projections import rebuild_rounds
from projections.generations import claim_generation, generation_of
from projections.live import Live
from projections.parking import EARLIER_EVENT_PARKED, ConsumedMessage, delete_parked, list_parked, park
from projections.projection import Projection, as_consumed, read_stored
from projections.rebuild import rebuild
from projections.registry import PROJECTIONS, Clients
from projections.retrying import discard, retry
from projections.sink import Sink
from tests.projections.messages import catch_up, eighth_of_events, store, stored_messages
from tests.samples import OBSERVED, OF_PERSON, event_of_each_kind, new_id

AnyProjection = Projection[Any]


@pytest.fixture(params=[name for name in PROJECTIONS if name != Live.name])  # which has no tables: see test_live.py
def projection(request: pytest.FixtureRequest, valkey: Redis) -> AnyProjection:
    return PROJECTIONS[request.param](Clients(valkey))


@pytest.fixture
async def stored(database: Database, all_tenants: Database, tenant: str) -> list[dict[str, Any]]:
    """Unpublished events of two users, at least one of every type. The second keeps the account."""
    for user, without in ((new_id(), ()), (new_id(), ("USER_DELETED",))):
        events = event_of_each_kind(tenant, user, new_id(), without=without)
        # More listings of the same account, which nothing is taken back of.
        kept = {*(OF_PERSON - OBSERVED), "PROPERTY_DELETED", "PROPERTY_UNFAVORITED"}
        for _ in range(2):
            events += event_of_each_kind(tenant, user, new_id(), without=kept)
        await store(database, tenant, events)
    messages = await stored_messages(all_tenants, tenant)
    assert {message["eventType"] for message in messages} == KINDS.keys()
    return messages


_OF_ONE_RUN = {"id", "generation", "applied_at", "changed_at"}
"""Columns that tell how events came: when a listing was written, and the first change of its batch."""


async def rows(all_tenants: Database, projection: AnyProjection, tenant: str, generation: int) -> list[list[str]]:
    """What the tables have of a tenant in one generation."""
    found = []
    async with all_tenants.transaction() as tx:
        for table in projection.tables:
            facts = [column for column in table.c if column.name not in _OF_ONE_RUN]
            query = select(*facts).where(table.c.tenant_id == tenant, table.c.generation == generation)
            if "total" in table.c:
                query = query.where(table.c.total != 0)  # what was counted and taken back reads as what never was
            found.append(sorted(repr(tuple(row)) for row in await tx.execute(query)))
    return found


async def serving(all_tenants: Database, projection: AnyProjection) -> int:
    async with all_tenants.transaction() as tx:
        return await generation_of(tx, projection.name)


async def applied(
    all_tenants: Database, projection: AnyProjection, tenant: str, batches: Sequence[Sequence[ConsumedMessage]]
) -> list[list[str]]:
    """What the tables have after these batches, in a generation of their own."""
    async with all_tenants.transaction() as tx:
        generation = await claim_generation(tx, projection.name)
    for batch in batches:
        events = [projection.read(message.topic, message.value) for message in batch]
        async with all_tenants.transaction() as tx:
            await projection.apply(tx, [event for event in events if event is not None], generation)
    return await rows(all_tenants, projection, tenant, generation)


@pytest.mark.parametrize("seed", range(10))
async def test_repeats_and_any_order_change_nothing(
    all_tenants: Database, projection: AnyProjection, tenant: str, stored: list[dict[str, Any]], seed: int
) -> None:
    chance = random.Random(seed)
    messages = as_consumed(projection, stored, where="test").messages
    deliveries = messages + chance.choices(messages, k=len(messages))
    chance.shuffle(deliveries)
    batches = []
    while deliveries:
        size = chance.randint(1, len(deliveries))
        batches.append(deliveries[:size])
        deliveries = deliveries[size:]

    in_order = await applied(all_tenants, projection, tenant, [[message] for message in messages])

    assert any(in_order)
    assert await applied(all_tenants, projection, tenant, batches) == in_order


async def test_catching_up_and_rebuilding_end_with_the_same_rows(
    all_tenants: Database, projection: AnyProjection, tenant: str, stored: list[dict[str, Any]]
) -> None:
    messages = as_consumed(projection, stored, where="test").messages
    right = await applied(all_tenants, projection, tenant, [messages])

    await catch_up(all_tenants, projection)
    after_catching_up = await rows(all_tenants, projection, tenant, await serving(all_tenants, projection))
    generation = (await rebuild(all_tenants, projection, lambda _: None)).generation

    assert after_catching_up == right
    assert await rows(all_tenants, projection, tenant, generation) == right
    assert await serving(all_tenants, projection) == generation


async def test_rebuilt_model_equals_the_live_one_while_writes_go_on(
    database: Database,
    all_tenants: Database,
    projection: AnyProjection,
    tenant: str,
    stored: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Events are stored, and come from Kafka in any order, before, during and after the switch."""
    monkeypatch.setattr(rebuild_rounds, "_BATCH", await eighth_of_events(all_tenants))
    sink, chance, begun = Sink(all_tenants, projection), random.Random(1), asyncio.Event()

    async def write() -> None:
        await sink.write(as_consumed(projection, stored, where="test").messages, asyncio.Event())
        for _ in range(12):
            events = event_of_each_kind(tenant, new_id(), new_id(), without=("USER_DELETED",))
            await store(database, tenant, events)
            written = [orjson.loads(event.model_dump_json(by_alias=True)) for event in events]
            messages = as_consumed(projection, written, where="test").messages
            chance.shuffle(messages)
            await sink.write(messages, asyncio.Event())
            begun.set()

    writing = asyncio.create_task(write())
    await begun.wait()
    first = await rebuild(all_tenants, projection, lambda _: None)
    await writing
    live = await rows(all_tenants, projection, tenant, first.generation)
    again = await rebuild(all_tenants, projection, lambda _: None)

    assert any(live)
    assert again.generation > first.generation
    assert await rows(all_tenants, projection, tenant, again.generation) == live
    messages = as_consumed(projection, await stored_messages(all_tenants, tenant), where="test").messages
    assert await applied(all_tenants, projection, tenant, [messages]) == live


async def test_what_a_rebuild_reads_of_a_stored_event_is_what_its_message_says(
    projection: AnyProjection, stored: list[dict[str, Any]]
) -> None:
    messages = as_consumed(projection, stored, where="test").messages
    from_messages = [projection.read(message.topic, message.value) for message in messages]

    readable, unreadable = read_stored(projection, stored, where="test")

    assert [event for _, event in readable] == [event for event in from_messages if event is not None]
    assert unreadable == []
    concerned = [message for message, event in zip(messages, from_messages, strict=True) if event is not None]
    assert [message.consumed().value for message, _ in readable] == [message.value for message in concerned]
    assert [message.key for message, _ in readable] == [message.key for message in concerned]


async def test_rebuild_leaves_no_rows_of_other_generations(
    all_tenants: Database, projection: AnyProjection, tenant: str, stored: list[dict[str, Any]]
) -> None:
    messages = as_consumed(projection, stored, where="test").messages
    await applied(all_tenants, projection, tenant, [messages])

    generation = (await rebuild(all_tenants, projection, lambda _: None)).generation

    async with all_tenants.transaction() as tx:
        for table in projection.tables:
            assert [row.generation for row in await tx.execute(select(table.c.generation).distinct())] == [generation]


async def test_discarded_event_does_not_come_back_by_a_rebuild(
    all_tenants: Database, projection: AnyProjection, tenant: str, stored: list[dict[str, Any]]
) -> None:
    messages = as_consumed(projection, stored, where="test").messages
    with_all = await applied(all_tenants, projection, tenant, [messages])
    for unneeded in messages:
        right = await applied(all_tenants, projection, tenant, [[each for each in messages if each is not unneeded]])
        if right != with_all:
            break  # most events are superseded by a later one
    async with all_tenants.transaction() as tx:
        await park(tx, projection.name, [(unneeded, "a mistake")])
        [parked] = await list_parked(tx, projection.name, unneeded.key)
    await discard(all_tenants, parked.id, "a test")

    generation = (await rebuild(all_tenants, projection, lambda _: None)).generation

    assert right != with_all
    assert await rows(all_tenants, projection, tenant, generation) == right


async def test_unreadable_message_is_parked_with_later_ones_until_it_is_discarded(
    all_tenants: Database, projection: AnyProjection, tenant: str, stored: list[dict[str, Any]]
) -> None:
    messages = as_consumed(projection, stored, where="test").messages
    first = messages[0]
    batch = [ConsumedMessage(first.topic, first.key, b"unreadable"), *messages]
    concerned = [message for message in messages if projection.read(message.topic, message.value)]
    of_key = [message for message in concerned if message.key == first.key]

    await Sink(all_tenants, projection).write(batch, asyncio.Event())
    async with all_tenants.transaction() as tx:
        unreadable, *later = await list_parked(tx, projection.name, first.key)
        await delete_parked(tx, projection.name, [unreadable.id])
    retried = await retry(all_tenants, projection, first.key)

    assert [row.reason for row in later] == [EARLIER_EVENT_PARKED] * len(of_key)
    assert (retried.applied, retried.failure) == (len(of_key), None)
    right = await applied(all_tenants, projection, tenant, [messages])
    assert await rows(all_tenants, projection, tenant, await serving(all_tenants, projection)) == right
