"""Postgres as the search engine."""

from collections.abc import AsyncIterator, Sequence

import pytest
from sqlalchemy import text

from adapters.postgres import Database
from adapters.search.engine import SearchTooSlow, SearchUnavailable
from adapters.search.postgres import PostgresSearch
from adapters.search.rows import indexed
from adapters.settings import Settings
from domain.events import Event
from domain.search import SearchFilters, SearchQuery
from projections.generations import generation_of
from projections.search import Search
from tests.search_contract import SearchContract, Searching
from tests.search_contract_changes import ChangesContract
from tests.search_contract_counts import CountsContract


@pytest.fixture(scope="module")
async def searching(settings: Settings, all_tenants: Database) -> AsyncIterator[Searching]:
    database, projection = Database.for_searching(settings), Search()

    async def index(events: Sequence[Event]) -> None:
        async with all_tenants.transaction() as tx:
            generation = await generation_of(tx, projection.name, locked=True)
            await projection.apply(tx, [indexed(event) for event in events], generation)

    yield Searching(PostgresSearch(database), index)
    await database.close()


class TestPostgresSearch(SearchContract):
    """The contract, for Postgres."""


class TestPostgresCounts(CountsContract):
    """What it counts."""


class TestPostgresChanges(ChangesContract):
    """How it finds changes."""


async def test_unreachable_database_is_search_unavailable(settings: Settings, tenant: str) -> None:
    nowhere = settings.model_copy(update={"database_url": "postgresql://nobody:x@127.0.0.1:9/nothing"})
    engine = PostgresSearch(Database.for_searching(nowhere))

    with pytest.raises(SearchUnavailable):
        await engine.search(tenant, SearchQuery())
    with pytest.raises(SearchUnavailable):
        await engine.count(tenant, SearchFilters())
    with pytest.raises(SearchUnavailable):
        await engine.clusters(tenant, SearchFilters(), 12)
    with pytest.raises(SearchUnavailable):
        await engine.cards(tenant, [])


async def test_statement_that_takes_too_long_is_cancelled(settings: Settings, tenant: str) -> None:
    database = Database.for_searching(settings, seconds=0.05)

    with pytest.raises(SearchTooSlow, match="statement timeout"):
        async with PostgresSearch(database)._connection(tenant) as connection:
            await connection.execute(text("SELECT pg_sleep(60)"))

    await database.close()
