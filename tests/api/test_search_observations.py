"""Searches are saved in batches that Temporal takes."""

from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest

from api.observation_batches import MAX_BYTES, by_size
from domain.observations import PropertySearched, Search
from domain.search import SearchFilters
from domain.search_history import remembered
from tests.samples import new_id


def searched(query: str) -> Search:
    user = new_id()
    data = PropertySearched(search_id=new_id(), query=query, total=1)
    return Search(event_id=new_id(), aggregate_id=user, user_id=user, timestamp=datetime.now(UTC), data=data)


def largest() -> SearchFilters:
    """A search of as many bytes as one may have: each number has its longest form, each character four bytes."""
    long = 1.2345678901234567e-10
    triangle = [[long, long]] * 4
    values: dict[str, Any] = {
        "q": "\U0001f3e0" * 253 + "a",
        "location": [f"{n:02}" + "\U0001f3e0" * 198 for n in range(20)],
        "amenities": [f"{n:02}" + "\U0001f3e0" * 58 for n in range(20)],
        "polygon": {"type": "MultiPolygon", "coordinates": [[triangle]] * 333},
    }
    return SearchFilters.model_validate(values)


def test_largest_search_fits_a_workflow_when_it_is_sealed() -> None:
    assert len(remembered(largest()).encode()) * 4 / 3 < MAX_BYTES / 5


@pytest.mark.parametrize("bytes_of_each", [10, 400, 600, 1_500])
def test_batches_are_closed_by_their_bytes(bytes_of_each: int) -> None:
    observations = [searched("x" * bytes_of_each) for _ in range(25)]

    batches = list(by_size(observations, 2_000))

    assert [one for batch in batches for one in batch] == observations
    sizes = [sum(len(one.model_dump_json()) for one in batch) for batch in batches]
    assert max(sizes) <= 2_000
    assert all(sum(pair) > 2_000 for pair in pairwise(sizes))


def test_observation_that_is_too_large_is_alone() -> None:
    small, large = searched("x"), searched("x" * 3_000)

    assert list(by_size([small, large, small], 2_000)) == [[small], [large], [small]]
    assert list(by_size([])) == []
