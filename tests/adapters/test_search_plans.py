"""The indexes that serve a search: as the application's role, below the view that shows a tenant its rows."""

import random
from collections.abc import AsyncIterator, Sequence
from typing import Any

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


async def explained(connection: AsyncConnection, query: Select[Any]) -> str:
    postgres = dialect.dialect()  # type: ignore[no-untyped-call]
    statement = query.compile(dialect=postgres, compile_kwargs={"literal_binds": True})
    return "\n".join(row[0] for row in await connection.exec_driver_sql(f"EXPLAIN {statement}"))


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
    searching: AsyncConnection, query: dict[str, Any], index: str
) -> None:
    await searching.execute(text("SET LOCAL enable_indexscan = off"))
    asked = SearchQuery.model_validate(query)

    plan = await explained(searching, complete(asked).statement((listings.c.card,), NEWEST, limit=20))

    assert f"Bitmap Index Scan on property_search_{index}" in plan


async def test_nearest_are_read_in_the_order_of_the_index(searching: AsyncConnection) -> None:
    asked = SearchQuery.model_validate({"near": NEAR, "sort": "distance"})

    plan = await plan_of(searching, asked, by_distance=True)
    shown = await explained(searching, plan.statement((listings.c.card,), order_of(asked), limit=20))

    assert "Index Scan using property_search_geo" in shown
    assert "Order By: (geo <->" in shown


async def test_locality_and_type_are_read_in_the_order_of_the_price(searching: AsyncConnection) -> None:
    asked = SearchQuery.model_validate({"location": ["Uppal"], "propertyType": ["VILLA"], "sort": "price"})

    plan = await explained(searching, complete(asked).statement((listings.c.card,), order_of(asked), limit=20))

    assert "using property_search_locality on" in plan
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


async def test_similar_words_are_found_by_trigrams(searching: AsyncConnection) -> None:
    query = "SELECT word FROM search.listed_words WHERE word % 'gachibowlli'"

    plan = "\n".join(row[0] for row in await searching.exec_driver_sql(f"EXPLAIN {query}"))

    assert "vocabulary_similar" in plan
