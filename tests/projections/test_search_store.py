"""The listings in OpenSearch: rebuilt while the old ones serve, filled when it is wiped, complete after an outage."""

import asyncio
import os
from collections.abc import AsyncIterator
from uuid import UUID

import pytest
from opensearchpy import AsyncOpenSearch
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters import event_store
from adapters.postgres import Database
from adapters.search import opensearch_index
from adapters.search.engine import ListingRejected, SearchEngine, SearchUnavailable
from adapters.search.opensearch_index import ALIAS, OpenSearchIndex
from adapters.search.rows import IndexedListing
from adapters.settings import Settings
from adapters.tables import property_search
from projections.parking import ConsumedMessage, list_parked
from projections.projection import as_consumed
from projections.rebuild import rebuild
from projections.runner import Runner
from projections.search import Search
from projections.sink import Sink
from tests.activities.accounts import Saving
from tests.platform import until
from tests.samples import create_property

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


class Switched(OpenSearchIndex):
    """An index that can be unavailable."""

    def __init__(self, client: AsyncOpenSearch) -> None:
        super().__init__(client)
        self.there, self.nowhere = client, opensearch_index.connect("http://127.0.0.1:1")

    def set(self, *, available: bool) -> None:
        self._client = self.there if available else self.nowhere


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
