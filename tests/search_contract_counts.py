"""What every search engine must count: the test module of an engine has a subclass of CountsContract."""

import random
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from domain.clusters import MAX_ZOOM, Counted, tiles_of
from domain.facets import Facet
from domain.geometry import Box
from domain.search import FacetValue, SearchFilters, SearchQuery, Total
from tests.samples import new_tenant
from tests.search_contract import Corpus, Searching
from tests.search_counts import clusters_of, facets_of, matching
from tests.search_model import event_of, filters, is_on_edge, listed

HYDERABAD = Box(west=78.2, south=17.2, east=78.7, north=17.6)


def as_counts(values: tuple[FacetValue, ...]) -> dict[str, int]:
    return {each.value: each.count for each in values}


class CountsContract:
    """The tests. `searching` is a fixture of the subclass, of the scope `class` at least."""

    @pytest.fixture(scope="class")
    @classmethod
    async def counted(cls, searching: Searching) -> Corpus:
        chance, tenant = random.Random(11), new_tenant()
        cards = [listed(chance, n) for n in range(200)]
        await searching.index([event_of(card, tenant) for card in cards])
        await searching.index([event_of(listed(chance, n), new_tenant()) for n in range(20)])
        return Corpus(tenant, cards)

    @given(asked=filters())
    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    async def test_totals_and_facets_are_those_of_a_plain_count(
        self, searching: Searching, counted: Corpus, asked: SearchFilters
    ) -> None:
        assume(not is_on_edge(counted.cards, asked))
        found = await searching.engine.search(counted.tenant, SearchQuery(**dict(asked), limit=1))

        assert found.total == Total(len(matching(counted.cards, asked)), exact=True)
        assert {name: as_counts(values) for name, values in found.facets.items()} == facets_of(counted.cards, asked)
        for values in found.facets.values():
            assert all(each.exact for each in values)
            assert list(values) == sorted(values, key=lambda each: (-each.count, each.value))

    async def test_facets_are_on_the_first_page_only(self, searching: Searching, counted: Corpus) -> None:
        first = await searching.engine.search(counted.tenant, SearchQuery(limit=5))
        second = await searching.engine.search(counted.tenant, SearchQuery(limit=5), first.next)
        assert set(first.facets) == set(Facet)
        assert (second.total, second.facets) == (None, {})

    async def test_several_searches_are_counted_at_once_in_their_order(
        self, searching: Searching, counted: Corpus
    ) -> None:
        several = [SearchFilters(), SearchFilters(max_price=1), SearchFilters(min_bedrooms=3)]
        totals = await searching.engine.counts(counted.tenant, several)
        assert totals == [Total(len(matching(counted.cards, each)), exact=True) for each in several]
        assert totals == [await searching.engine.count(counted.tenant, each) for each in several]
        assert await searching.engine.counts(counted.tenant, []) == []

    @given(asked=filters(), zoom=st.integers(min_value=0, max_value=MAX_ZOOM))
    @settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
    async def test_clusters_are_those_of_a_plain_count(
        self, searching: Searching, counted: Corpus, asked: SearchFilters, zoom: int
    ) -> None:
        box = asked.bbox or HYDERABAD
        asked = asked.model_copy(update={"bbox": box})
        assume(not is_on_edge(counted.cards, asked))
        level = tiles_of(box, zoom).level

        found = await searching.engine.clusters(counted.tenant, asked, level)

        expected = clusters_of(counted.cards, asked, level)
        counts = [each.count for each in found.clusters]
        assert found.exact
        assert counts == sorted(counts, reverse=True)
        without_middle: dict[str, Any] = {"exclude": {"latitude", "longitude"}}
        assert {each.tile: each.model_dump(**without_middle) for each in found.clusters} == {
            tile: each.model_dump(**without_middle) for tile, each in expected.items()
        }
        for each in found.clusters:
            middle = expected[each.tile]
            assert (each.latitude, each.longitude) == pytest.approx((middle.latitude, middle.longitude))

    async def test_nothing_of_another_tenant_is_counted(self, searching: Searching, counted: Corpus) -> None:
        found = await searching.engine.search(new_tenant(), SearchQuery())
        assert found.total == Total(0, exact=True)
        assert not any(found.facets.values())
        assert await searching.engine.counts(new_tenant(), [SearchFilters()]) == [Total(0, exact=True)]
        assert await searching.engine.clusters(new_tenant(), SearchFilters(bbox=HYDERABAD), 12) == Counted(
            (), exact=True
        )
