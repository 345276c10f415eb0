"""What is remembered of a search, and which searches are the same."""

from typing import Any

import pytest

from domain.activity import activity_of
from domain.search import SearchFilters, SearchQuery
from domain.search_history import recalled, remembered, sameness
from tests.samples import event_of_each_kind, new_id

NEAR = {"near": {"latitude": 17.44, "longitude": 78.35}, "radiusKm": 2.0}


def asked(**filters: Any) -> SearchQuery:
    return SearchQuery.model_validate(filters)


def test_search_is_remembered_as_it_was_asked_without_order_and_page() -> None:
    query = asked(q="2 BHK Gachibowli", propertyType=["APARTMENT"], maxPrice=10_000_000, sort="newest", limit=5, **NEAR)

    again = recalled(remembered(query))

    assert again == SearchFilters.model_validate(query.model_dump(exclude={"sort", "limit"}))
    assert "sort" not in remembered(query)


def test_radius_is_remembered_beside_its_point_only() -> None:
    assert remembered(asked(q="villa", radiusKm=2.0)) == '{"q":"villa"}'
    assert '"radiusKm":2.0' in remembered(asked(**NEAR))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"q": "2 BHK  Gachibowli"}, {"q": "2 bhk gachibowli"}),
        ({"location": ["Uppal", "Kondapur"]}, {"location": ["kondapur", "uppal"]}),
        ({"q": "villa", "sort": "price"}, {"q": "villa", "limit": 3}),
    ],
)
def test_searches_that_ask_the_same_are_the_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert sameness(asked(**one)) == sameness(asked(**other))


@pytest.mark.parametrize("other", [{"q": "villas"}, {"q": "villa", "maxPrice": 5}, {"location": ["villa"]}, NEAR])
def test_searches_that_ask_something_else_differ(other: dict[str, Any]) -> None:
    assert sameness(asked(q="villa")) != sameness(asked(**other))


def test_search_that_a_later_release_could_ask_is_not_recalled() -> None:
    assert recalled('{"q":"villa","swimmingPool":true}') is None


def test_activity_of_a_search_contains_nothing_of_what_was_asked() -> None:
    [event] = [one for one in event_of_each_kind("t", new_id(), new_id()) if one.event_type == "PROPERTY_SEARCHED"]

    activity = activity_of(event)

    assert activity is not None
    assert "uppal" in event.data.query
    assert "uppal" not in activity.model_dump_json()
