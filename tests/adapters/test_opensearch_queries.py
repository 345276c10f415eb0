"""Searches as requests to OpenSearch, without one."""

import pytest

from adapters.search import conditions as of_postgres
from adapters.search import opensearch_queries
from adapters.search.opensearch_queries import page, position_of
from domain.search import SearchFilters, SearchQuery, Sort


def test_every_filter_is_a_condition_as_in_postgres() -> None:
    filters = SearchFilters.model_fields.keys() - {"radius_km"}

    assert opensearch_queries._CONDITIONS.keys() == filters
    assert of_postgres._CONDITIONS.keys() == filters


@pytest.mark.parametrize("sort", Sort)
def test_page_after_a_position_begins_where_its_item_was(sort: Sort) -> None:
    query = SearchQuery.model_validate({"q": "flat", "sort": sort, "near": {"latitude": 17.4, "longitude": 78.4}})
    values = [1767225600123456, "01890a5d-ac96-774b-bcce-b302099a8057"]
    asked = page(query, None)
    sorted_by = [8_500_000, *values] if len(asked["sort"]) == 3 else values

    following = page(query, position_of(query, sorted_by))

    assert following["search_after"] == sorted_by
    assert following["sort"] == asked["sort"]
    assert (asked["track_total_hits"], following["track_total_hits"]) == (10_000, False)
