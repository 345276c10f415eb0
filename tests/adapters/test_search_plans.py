"""The indexes that serve a search: as the application's role, below the view that shows a tenant its rows."""

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
from sqlalchemy import Select, text
from sqlalchemy.dialects.postgresql import asyncpg as dialect
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.postgres import Database
from adapters.search import plans
from adapters.search.plans import NEWEST, Key, Plan, below, complete, plan_of
from adapters.search.postgres import order_of
from adapters.settings import Settings
from adapters.tables import listings
from domain.search import SearchQuery, Sort
from tests.search_contract import NEAR
from tests.search_model import listed

POLYGON = {"type": "Polygon", "coordinates": [[[78, 17], [79, 17], [79, 18], [78, 17]]]}
AREAS: Sequence[dict[str, Any]] = (
    {"near": NEAR},
    {"bbox": {"west": 78, "south": 17, "east": 79, "north": 18}},
    {"polygon": POLYGON},
)


@pytest.fixture
async def searching(settings: Settings, tenant: str) -> AsyncIterator[AsyncConnection]:
    """A connection whose planner takes an index wherever one serves, however small the table."""
    database = Database.for_searching(settings)
    async with database.transaction(tenant) as tx:
        await tx.execute(text("SET LOCAL enable_seqscan = off"))
        await tx.execute(text("SET LOCAL enable_sort = off"))
        yield tx
    await database.close()


@asynccontextmanager
async def only_index(settings: Settings, tenant: str, index: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection as the application's role, in a transaction without the other indexes: it is rolled back.

    Those by tenant serve a tenant of few listings as well.
    """
    owner = await asyncpg.connect(settings.database_url)
    transaction = owner.transaction()
    await transaction.start()
    table = index.rpartition("_")[0]
    others = await owner.fetch(
        "SELECT indexname FROM pg_indexes WHERE schemaname = 'search' AND tablename = $1"
        " AND indexname NOT IN ($2, $1 || '_pkey')",
        table,
        index,
    )
    await owner.execute(f"ALTER TABLE search.{table} DROP CONSTRAINT {table}_pkey")
    for row in others:
        await owner.execute(f"DROP INDEX search.{row['indexname']}")
    await owner.execute("SET LOCAL ROLE hyderabad_app; SET LOCAL enable_seqscan = off")
    await owner.execute("SELECT set_config('app.tenant', $1, true)", tenant)
    try:
        yield owner
    finally:
        await transaction.rollback()
        await owner.close()


async def explained_with(settings: Settings, tenant: str, index: str, query: str) -> str:
    """The plan of a query where this is the only index."""
    async with only_index(settings, tenant, index) as connection:
        return "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN {query}"))


async def explained(connection: AsyncConnection, query: Select[Any]) -> str:
    return "\n".join(row[0] for row in await connection.exec_driver_sql(f"EXPLAIN {as_text(query)}"))


def as_text(query: Select[Any]) -> str:
    postgres = dialect.dialect()  # type: ignore[no-untyped-call]
    return str(query.compile(dialect=postgres, compile_kwargs={"literal_binds": True}))


@pytest.mark.parametrize(
    ("sort", "index"),
    [
        (Sort.NEWEST, "newest"),
        (Sort.RELEVANCE, "newest"),
        (Sort.PRICE, "price"),
        (Sort.PRICE_DESCENDING, "price_desc"),
        (Sort.PRICE_PER_SQFT, "rate"),
        (Sort.AREA, "area"),
        (Sort.AREA_DESCENDING, "area_desc"),
    ],
)
async def test_each_order_is_that_of_an_index_also_after_a_position(
    searching: AsyncConnection, sort: Sort, index: str
) -> None:
    order = order_of(SearchQuery(sort=sort))
    values = [5, *place()] if len(order) == 3 else place()

    for more in ([], [below(order, values)]):
        plan = await explained(searching, Plan([]).statement((listings.c.card,), order, more, 20))
        assert f"using property_search_{index} on" in plan
        assert "Sort" not in plan
        assert ("ROW(" in plan.partition("Index Cond:")[2]) == bool(more), plan


def place() -> list[Any]:
    """Time and id of a listing."""
    card = listed(random.Random(1), 1)
    return [card.listed_at, card.id]


@pytest.mark.parametrize(
    ("query", "index"),
    [({"q": "villa"}, "words"), ({"amenities": ["Lift"]}, "amenities"), *((area, "geo") for area in AREAS)],
)
async def test_words_amenities_and_areas_are_found_by_their_index(
    settings: Settings, tenant: str, query: dict[str, Any], index: str
) -> None:
    """Below row-level security these operators would use no index."""
    statement = complete(SearchQuery.model_validate(query)).statement((listings.c.card,), NEWEST, limit=20)

    plan = await explained_with(settings, tenant, f"property_search_{index}", as_text(statement))

    assert f"property_search_{index}" in plan
    assert "Index Cond" in plan.partition(f"property_search_{index}")[2]


async def test_similar_words_are_found_by_trigrams(settings: Settings, tenant: str) -> None:
    query = "SELECT word FROM search.listed_words WHERE word % 'gachibowlli'"

    plan = await explained_with(settings, tenant, "vocabulary_similar", query)

    assert "Index Cond: (word % 'gachibowlli'" in plan


async def test_nearest_are_read_in_the_order_of_the_index(searching: AsyncConnection) -> None:
    asked = SearchQuery.model_validate({"near": NEAR, "sort": "distance"})

    plan = await plan_of(searching, asked, by_distance=True)
    shown = await explained(searching, plan.statement((listings.c.card,), order_of(asked), limit=20))

    assert "Index Scan using property_search_geo" in shown
    assert "Order By: (geo <->" in shown


async def test_locality_and_type_are_read_in_the_order_of_the_price(settings: Settings, tenant: str) -> None:
    """Which of the indexes in this order is chosen depends on the statistics; this one alone has the locality."""
    asked = SearchQuery.model_validate({"location": ["Uppal"], "propertyType": ["VILLA"], "sort": "price"})
    statement = complete(asked).statement((listings.c.card,), order_of(asked), limit=20)

    plan = await explained_with(settings, tenant, "property_search_locality", as_text(statement))

    assert "using property_search_locality on" in plan
    assert "locality = 'uppal'" in plan.partition("Index Cond:")[2].partition("Filter:")[0]
    assert "Sort" not in plan


@pytest.mark.parametrize("query", [{"q": "villa"}, *AREAS])
async def test_common_words_and_large_areas_are_looked_for_in_the_order_of_the_page(
    searching: AsyncConnection, query: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plans, "MANY", -1)  # every number of listings is above it
    asked = SearchQuery.model_validate({**query, "sort": "price"})
    order: Sequence[Key] = order_of(asked)

    plan = await plan_of(searching, asked)
    shown = await explained(searching, plan.statement((listings.c.card,), order, limit=20))

    assert plan.bounded
    assert "using property_search_price on" in shown
    assert "Sort" not in shown
    assert "property_search_words" not in shown
    assert "property_search_geo" not in shown
