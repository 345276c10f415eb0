"""The listings in OpenSearch: rebuilt while the old ones serve, filled when it is wiped, complete after an outage."""

import asyncio
import os
from collections.abc import AsyncIterator
from uuid import UUID

import orjson
import pytest
from opensearchpy import AsyncOpenSearch
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters import event_store, kafka
from adapters.kafka import Publisher
from adapters.postgres import Database
from adapters.search import opensearch_index
from adapters.search.engine import ListingRejected, SearchEngine, SearchUnavailable
from adapters.search.opensearch_index import ALIAS, OpenSearchIndex
from adapters.search.rows import IndexedListing
from adapters.settings import Settings
from adapters.tables import property_search
from domain.rebuilds import RebuildOrder, RebuildStatus
from projections import rebuild_rounds
from projections.generations import generation_of, is_stored
from projections.parking import ConsumedMessage, list_parked
from projections.projection import as_consumed
from projections.rebuild import RebuildEnded, rebuild, rebuild_steps
from projections.runner import Runner
from projections.search import Search, newest_of_each
from projections.sink import Sink
from tests.activities.accounts import Saving
from tests.platform import until
from tests.projections.messages import eighth_of_events, store, stored_messages
from tests.samples import create_property, event_of_each_kind, new_id

pytestmark = [
    pytest.mark.search,
    pytest.mark.skipif(os.environ.get("TEST_SEARCH") != "opensearch", reason="OpenSearch: make test-search"),
]


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[AsyncOpenSearch]:
    assert settings.search_url
    client = opensearch_index.connect(settings.search_url)
    yield client
    await client.close()


async def created(database: Database, saving: Saving, tenant: str) -> ConsumedMessage:
    """The message of a listing that is saved for a tenant."""
    saved = await saving.property(create_property(tenant, await saving.registered(tenant)))
    async with database.statements() as connection:
        event = await event_store.by_id(connection, saved.events[0].event_id)
    assert event
    [message] = as_consumed(Search(), [event], where="test").messages
    return message


@pytest.fixture
async def saved(all_tenants: Database, saving: Saving, tenant: str) -> ConsumedMessage:
    return await created(all_tenants, saving, tenant)


async def is_found(engine: SearchEngine, tenant: str, message: ConsumedMessage) -> bool:
    try:
        await engine.refresh()
        return bool(await engine.cards(tenant, [UUID(message.key)]))
    except SearchUnavailable:
        return False


async def indexes(client: AsyncOpenSearch) -> dict[str, list[str]]:
    """The indexes of listings, and the aliases of each that readers use."""
    found = await client.indices.get_alias(index=f"{ALIAS}-*")
    return {name: [alias for alias in index["aliases"] if alias == ALIAS] for name, index in found.items()}


async def test_old_index_serves_until_the_rebuilt_one_is_complete(
    all_tenants: Database,
    search_index: OpenSearchIndex,
    engine: SearchEngine,
    client: AsyncOpenSearch,
    tenant: str,
    saved: ConsumedMessage,
) -> None:
    await Sink(all_tenants, Search(search_index)).write([saved], asyncio.Event())
    [before] = await indexes(client)
    rebuilding = asyncio.create_task(rebuild(all_tenants, Search(search_index), lambda _: None))
    looks = 0
    while not rebuilding.done():
        assert await is_found(engine, tenant, saved)
        looks += 1
    rebuilt = await rebuilding

    assert looks > 1
    assert await is_found(engine, tenant, saved)
    assert await indexes(client) == {f"{ALIAS}-{rebuilt.generation}": [ALIAS]}
    assert before != f"{ALIAS}-{rebuilt.generation}"


async def documents(client: AsyncOpenSearch, tenant: str) -> list[bytes]:
    """A canonical dump of what readers have of a tenant."""
    await client.indices.refresh(index=ALIAS)
    query = {"query": {"term": {"tenant": tenant}}, "size": 1000, "version": True}
    hits = (await client.search(index=ALIAS, body=query))["hits"]["hits"]
    shown = [{name: hit[name] for name in ("_id", "_version", "_source")} for hit in hits]
    return sorted(orjson.dumps(each, option=orjson.OPT_SORT_KEYS) for each in shown)


async def test_rebuilt_index_equals_the_live_one_while_a_runner_writes(
    settings: Settings,
    database: Database,
    all_tenants: Database,
    search_index: OpenSearchIndex,
    engine: SearchEngine,
    client: AsyncOpenSearch,
    publisher: Publisher,
    tenant: str,
    saved: ConsumedMessage,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Events come from Kafka before, during and after the switch, and the old index serves meanwhile."""
    monkeypatch.setattr(rebuild_rounds, "_BATCH", await eighth_of_events(all_tenants))
    await Sink(all_tenants, Search(search_index)).write([saved], asyncio.Event())
    stop, begun = asyncio.Event(), asyncio.Event()
    runner = asyncio.create_task(Runner(settings, all_tenants, Search(search_index), f"test-{tenant}").run(stop))

    async def write() -> None:
        for n in range(20):
            without = {"USER_DELETED"} if n % 4 == 0 else {"USER_DELETED", "PROPERTY_DELETED"}
            events = event_of_each_kind(tenant, new_id(), new_id(), without=without)
            await store(database, tenant, events)
            stored = [orjson.loads(event.model_dump_json(by_alias=True)) for event in events]
            await publisher.send([message for each in stored for message in kafka.messages_of(each)])
            begun.set()

    async def versions() -> dict[str, int]:
        """Of every listing that the tenant's events tell of."""
        messages = as_consumed(Search(), await stored_messages(all_tenants, tenant), where="test").messages
        listings = [Search().read(message.topic, message.value) for message in messages]
        newest = newest_of_each([listing for listing in listings if listing])
        return {f"{tenant}:{listing.property_id}": listing.version for listing in newest}

    async def is_complete() -> bool:
        shown = map(orjson.loads, await documents(client, tenant))
        return {each["_id"]: each["_version"] for each in shown} == await versions()

    writing = asyncio.create_task(write())
    await begun.wait()
    rebuilding = asyncio.create_task(rebuild(all_tenants, Search(search_index), lambda _: None))
    while not rebuilding.done():
        assert await is_found(engine, tenant, saved)
    await writing
    await until(is_complete)
    live, [first] = await documents(client, tenant), await indexes(client)
    again = await rebuild(all_tenants, Search(search_index), lambda _: None)

    assert len(live) == 21
    assert await documents(client, tenant) == live
    assert await indexes(client) == {f"{ALIAS}-{again.generation}": [ALIAS]}
    assert first != f"{ALIAS}-{again.generation}"
    stop.set()
    await runner


async def test_lost_index_is_rebuilt_by_the_projection_itself(
    settings: Settings,
    all_tenants: Database,
    search_index: OpenSearchIndex,
    engine: SearchEngine,
    client: AsyncOpenSearch,
    tenant: str,
    saved: ConsumedMessage,
) -> None:
    await client.indices.delete(index=f"{ALIAS}-*")
    stop = asyncio.Event()
    runner = Runner(settings, all_tenants, Search(search_index), f"test-{tenant}")
    running = asyncio.create_task(runner.run(stop))

    async def is_back() -> bool:
        return await is_found(engine, tenant, saved)

    async def is_ready() -> bool:
        return not runner.waiting_for

    await until(is_back)
    await until(is_ready)
    stop.set()
    await running
    assert len(await indexes(client)) == 1


async def test_index_that_lacks_what_was_applied_without_it_is_rebuilt(
    settings: Settings,
    all_tenants: Database,
    search_index: OpenSearchIndex,
    engine: SearchEngine,
    client: AsyncOpenSearch,
    saving: Saving,
    tenant: str,
    saved: ConsumedMessage,
) -> None:
    later = await created(all_tenants, saving, tenant)
    await Sink(all_tenants, Search(search_index)).write([saved], asyncio.Event())
    assert await is_found(engine, tenant, saved)
    async with all_tenants.statements() as connection:
        outdated = await generation_of(connection, Search.name)

    await Sink(all_tenants, Search()).write([later], asyncio.Event())

    stop = asyncio.Event()
    running = asyncio.create_task(Runner(settings, all_tenants, Search(search_index), f"test-{tenant}").run(stop))

    async def is_rebuilt() -> bool:
        async with all_tenants.statements() as connection:
            serving = await generation_of(connection, Search.name)
            stored = await is_stored(connection, Search.name, serving)
        return stored and serving > outdated and await is_found(engine, tenant, later)

    await until(is_rebuilt)
    stop.set()
    await running
    assert await is_found(engine, tenant, saved)
    assert f"{ALIAS}-{outdated}" not in await indexes(client)


class Switched(OpenSearchIndex):
    """An index that can be unavailable."""

    def __init__(self, client: AsyncOpenSearch) -> None:
        super().__init__(client)
        self.there, self.nowhere = client, opensearch_index.connect("http://127.0.0.1:1")

    def set(self, *, available: bool) -> None:
        self._client = self.there if available else self.nowhere


async def test_rebuild_is_cancelled_while_opensearch_is_unavailable_and_the_next_deletes_what_it_left(
    all_tenants: Database, search_index: OpenSearchIndex, client: AsyncOpenSearch
) -> None:
    index = Switched(client)
    order = RebuildOrder(rebuild_id=new_id(), projection=Search.name)

    async with rebuild_steps(all_tenants, Search(index), order) as steps:
        await steps.begin()
        await steps.replay(0)
        index.set(available=False)
        ended = await steps.abort(RebuildStatus.CANCELLED, None)
    left = await indexes(client)
    index.set(available=True)
    rebuilt = await rebuild(all_tenants, Search(index), lambda _: None)

    assert ended
    assert ended.status is RebuildStatus.CANCELLED
    assert left[f"{ALIAS}-{ended.generation}"] == []
    assert len(left) == 2
    assert await indexes(client) == {f"{ALIAS}-{rebuilt.generation}": [ALIAS]}
    await index.nowhere.close()


async def test_rebuild_whose_index_is_lost_ends(
    all_tenants: Database, search_index: OpenSearchIndex, client: AsyncOpenSearch
) -> None:
    order = RebuildOrder(rebuild_id=new_id(), projection=Search.name)

    async with rebuild_steps(all_tenants, Search(search_index), order) as steps:
        begun = await steps.begin()
        await client.indices.delete(index=f"{ALIAS}-{begun.generation}")
        for step in (steps.replay(0), steps.switch()):
            with pytest.raises(RebuildEnded, match="start another rebuild"):
                await step
        await steps.abort(RebuildStatus.FAILED, "its index is lost")


async def test_batch_waits_until_opensearch_is_available(
    all_tenants: Database,
    search_index: OpenSearchIndex,
    engine: SearchEngine,
    client: AsyncOpenSearch,
    tenant: str,
    saved: ConsumedMessage,
    caplog: pytest.LogCaptureFixture,
) -> None:
    index = Switched(client)
    index.set(available=False)
    sink = Sink(all_tenants, Search(index))
    writing = asyncio.create_task(sink.write([saved], asyncio.Event()))

    async def has_failed() -> bool:
        return "the batch was not written (OpenSearch: ConnectionError" in caplog.text

    await until(has_failed)
    # Neither the checkpoint nor an offset moves, and Postgres has not what the index lacks.
    assert not writing.done()
    assert not sink.has_written(saved.event_id)
    assert await listings_in_postgres(all_tenants, tenant) == 0
    index.set(available=True)

    assert await writing
    assert await is_found(engine, tenant, saved)
    assert await listings_in_postgres(all_tenants, tenant) == 1
    await index.nowhere.close()


async def listings_in_postgres(database: Database, tenant: str) -> int:
    query = select(func.count()).select_from(property_search).where(property_search.c.tenant_id == tenant)
    async with database.statements() as connection:
        count: int = (await connection.execute(query)).scalar_one()
        return count


class Refusing(Search):
    """Has an index that refuses the listings of a tenant."""

    def __init__(self, index: OpenSearchIndex, tenant: str) -> None:
        super().__init__(index)
        self._tenant = tenant

    async def apply(self, tx: AsyncConnection, events: list[IndexedListing], generation: int) -> None:  # type: ignore[override]
        if any(event.tenant_id == self._tenant for event in events):
            raise ListingRejected("rejected by OpenSearch: mapper_parsing_exception: failed to parse")
        await super().apply(tx, events, generation)


async def test_listing_that_opensearch_rejects_is_parked_alone(
    all_tenants: Database,
    search_index: OpenSearchIndex,
    engine: SearchEngine,
    saving: Saving,
    tenant: str,
    saved: ConsumedMessage,
) -> None:
    other = f"{tenant}-other"
    message = await created(all_tenants, saving, other)
    projection = Refusing(search_index, other)

    await Sink(all_tenants, projection).write([message, saved], asyncio.Event())

    assert await is_found(engine, tenant, saved)
    async with all_tenants.transaction() as tx:
        [parked] = await list_parked(tx, projection.name, message.key)
    assert parked.reason == "rejected by OpenSearch: mapper_parsing_exception: failed to parse"
