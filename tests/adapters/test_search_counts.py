"""Totals, facets and clusters of Postgres against a plain count."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters.postgres import Database
from adapters.search import facets
from adapters.search.clusters import clusters
from adapters.search.facets import counts, total_and_facets
from domain.clusters import tiles_of
from domain.facets import Facet, under_other_filters
from domain.geometry import Box
from domain.search import FacetValue, ListingCard, SearchFilters, Total
from projections.search import Search
from tests.relevance.evaluation import Judged
from tests.relevance.listings import AMENITIES, LOCALITIES
from tests.relevance.loading import load
from tests.samples import new_tenant
from tests.search_counts import clusters_of, facets_of, matching

HYDERABAD = Box(west=78.2, south=17.2, east=78.7, north=17.6)


class Loaded:
    """A tenant with listings."""

    def __init__(self, tenant: str, cards: list[ListingCard]) -> None:
        self.tenant = tenant
        self.cards = cards


@pytest.fixture(scope="module")
async def loaded(all_tenants: Database) -> Loaded:
    tenant, neighbour = new_tenant(), new_tenant()
    known = Judged(tenant).indexed[:700]
    await load(all_tenants, Search(), known)
    await load(all_tenants, Search(), Judged(neighbour).indexed[:100])
    return Loaded(tenant, [each.card for each in known if each.card])


def some(*values: str) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(values), max_size=2, unique=True).map(tuple)


FILTERS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "q": st.sampled_from(["lake view", "flat", "gachibowli villa", "nowhere"]),
        "location": some(*LOCALITIES),
        "propertyType": some("APARTMENT", "VILLA", "PLOT"),
        "listingType": some("SALE", "RENT"),
        "bedrooms": some("1", "2", "3+"),
        "minBedrooms": st.integers(1, 4),
        "bathrooms": some("1", "2+"),
        "minPrice": st.just(20_000),
        "maxPrice": st.sampled_from([25_000, 15_000_000]),
        "furnishedStatus": some("FURNISHED", "UNFURNISHED"),
        "facing": some("EAST", "NORTH"),
        "postedBy": some("AGENT", "USER"),
        "amenities": some(*AMENITIES),
        "minArea": st.just(1_000),
        "bbox": st.just(HYDERABAD.model_dump()),
    },
)


def as_counts(values: tuple[FacetValue, ...]) -> dict[str, int]:
    return {each.value: each.count for each in values}


@given(asked=FILTERS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_totals_and_facets_are_those_of_a_plain_count(
    database: Database, loaded: Loaded, asked: dict[str, Any]
) -> None:
    filters = SearchFilters.model_validate(asked)
    async with database.statements(loaded.tenant) as connection:
        total, found = await total_and_facets(connection, filters)
        assert await counts(connection, [filters]) == [total]
    assert total == Total(len(matching(loaded.cards, filters)), exact=True)
    assert {name: as_counts(values) for name, values in found.items()} == facets_of(loaded.cards, filters)
    for values in found.values():
        assert all(each.exact for each in values)
        assert list(values) == sorted(values, key=lambda each: (-each.count, each.value))


async def test_above_the_limit_total_and_facets_are_lower_bounds(
    database: Database, loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facets, "COUNTED_EXACTLY", 80)
    villas = SearchFilters.model_validate({"propertyType": ["VILLA"], "location": ["Kondapur"]})
    exact = facets_of(loaded.cards, villas)
    async with database.statements(loaded.tenant) as connection:
        total, found = await total_and_facets(connection, villas)
        every, _ = await total_and_facets(connection, SearchFilters())
    assert total.exact
    assert every == Total(80, exact=False)
    # 700 / 26 listings are in Kondapur, and more than 80 are villas.
    assert as_counts(found[Facet.PROPERTY_TYPE]) == exact["propertyType"]
    assert not any(each.exact for each in found[Facet.LOCATION])
    assert all(each.count <= exact["location"][each.value] for each in found[Facet.LOCATION])
    assert sum(each.count for each in found[Facet.LOCATION]) == 81


async def test_several_searches_are_counted_at_once_in_their_order(database: Database, loaded: Loaded) -> None:
    several = [SearchFilters(), SearchFilters(q="nowhere"), SearchFilters(location=("Uppal",))]
    async with database.statements(loaded.tenant) as connection:
        assert await counts(connection, several) == [
            Total(len(matching(loaded.cards, filters)), exact=True) for filters in several
        ]
        assert await counts(connection, []) == []


async def test_nothing_of_another_tenant_is_counted(database: Database, loaded: Loaded) -> None:
    async with database.statements(new_tenant()) as connection:
        total, found = await total_and_facets(connection, SearchFilters())
        assert total == Total(0, exact=True)
        assert not any(found.values())
        assert await clusters(connection, SearchFilters(bbox=HYDERABAD), 12) == []


@pytest.mark.parametrize("zoom", [0, 9, 12, 16])
@pytest.mark.parametrize("asked", [{}, {"propertyType": ["VILLA"], "q": "garden"}])
async def test_clusters_are_those_of_a_plain_count(
    database: Database, loaded: Loaded, zoom: int, asked: dict[str, object]
) -> None:
    filters = SearchFilters.model_validate({**asked, "bbox": HYDERABAD.model_dump()})
    level = tiles_of(HYDERABAD, zoom).level
    async with database.statements(loaded.tenant) as connection:
        found = await clusters(connection, filters, level)
    expected = clusters_of(loaded.cards, filters, level)
    assert found
    assert [each.count for each in found] == sorted((each.count for each in found), reverse=True)
    assert {each.tile: each.model_dump(exclude={"latitude", "longitude"}) for each in found} == {
        tile: each.model_dump(exclude={"latitude", "longitude"}) for tile, each in expected.items()
    }
    for each in found:
        middle = expected[each.tile]
        assert (each.latitude, each.longitude) == pytest.approx((middle.latitude, middle.longitude))


def test_facets_are_counted_in_one_part_unless_they_are_filtered_by() -> None:
    asked = SearchFilters.model_validate({"location": ["Uppal"], "minPrice": 5})
    under = {under_other_filters(asked, facet) for facet in Facet}
    assert len(under) == 3
