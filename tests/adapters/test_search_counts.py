"""How Postgres counts more listings than it counts exactly."""

import pytest

from adapters.postgres import Database
from adapters.search import clusters, facets
from adapters.search.facets import counts, total_and_facets
from adapters.search.postgres import PostgresSearch
from adapters.settings import Settings
from domain.clusters import Counted
from domain.facets import Facet
from domain.geometry import Box
from domain.search import SearchFilters, Total
from projections.search import Search
from tests.relevance.evaluation import Judged
from tests.relevance.loading import load
from tests.samples import new_tenant
from tests.search_contract_counts import as_counts
from tests.search_counts import clusters_of, facets_of


async def test_above_the_limit_total_and_facets_are_lower_bounds(
    database: Database, all_tenants: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facets, "COUNTED_EXACTLY", 80)
    tenant = new_tenant()
    known = Judged(tenant).indexed[:700]
    await load(all_tenants, Search(), known)
    cards = [each.card for each in known if each.card]
    villas = SearchFilters.model_validate({"propertyType": ["VILLA"], "location": ["Kondapur"]})
    exact = facets_of(cards, villas)

    async with database.statements(tenant) as connection:
        total, found = await total_and_facets(connection, villas)
        every, of_every = await total_and_facets(connection, SearchFilters())
        assert await counts(connection, [SearchFilters(), villas]) == [every, total]

    assert total.exact
    assert every == Total(80, exact=False)
    # 700 / 26 listings are in Kondapur, and more than 80 are villas.
    assert as_counts(found[Facet.PROPERTY_TYPE]) == exact["propertyType"]
    assert not any(each.exact for each in found[Facet.LOCATION])
    assert all(each.count <= exact["location"][each.value] for each in found[Facet.LOCATION])
    newest = facets_of(cards[-81:], SearchFilters())
    assert {name: as_counts(values) for name, values in of_every.items()} == newest, "of the newest ones"


async def test_clusters_of_more_listings_than_are_counted_are_those_of_the_newest(
    settings: Settings, all_tenants: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clusters, "MAX_COUNTED", 80)
    tenant = new_tenant()
    known = Judged(tenant).indexed[:300]
    await load(all_tenants, Search(), known)
    cards = [each.card for each in known if each.card]
    everything = SearchFilters(bbox=Box(west=78.0, south=17.0, east=79.0, north=18.0))
    rare = SearchFilters.model_validate({**everything.model_dump(), "location": ["Kondapur"]})
    database = Database.for_searching(settings)
    try:
        engine = PostgresSearch(database)
        every = await engine.clusters(tenant, everything, 12)
        some = await engine.clusters(tenant, rare, 12)
        no_match = await engine.clusters(tenant, everything.model_copy(update={"min_price": 10**11}), 12)
    finally:
        await database.close()

    assert not every.exact
    newest = clusters_of(cards[-81:], everything, 12)
    assert {each.tile: each.count for each in every.clusters} == {tile: each.count for tile, each in newest.items()}
    assert some.exact, "the map shows many, of which few meet the other filter"
    assert {each.tile for each in some.clusters} == clusters_of(cards, rare, 12).keys()
    assert no_match == Counted((), exact=True)
