"""What can be asked of a search."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from domain.search import SearchFilters


def test_time_without_a_zone_is_in_utc() -> None:
    without, with_zone = (
        SearchFilters.model_validate({"listedSince": text}).listed_since
        for text in ("2026-11-01T10:00:00", "2026-11-01T10:00:00+05:30")
    )

    assert without == datetime(2026, 11, 1, 10, tzinfo=UTC)
    assert with_zone == datetime(2026, 11, 1, 10, tzinfo=UTC) - timedelta(hours=5, minutes=30)


def test_time_of_the_last_change_is_no_filter() -> None:
    with pytest.raises(ValidationError):
        SearchFilters.model_validate({"changedSince": "2026-11-01T10:00:00Z"})


@pytest.mark.parametrize(
    "time", ["0001-01-01T00:00:00+14:00", "1999-12-31T23:59:59Z", "9999-12-31T23:59:59-14:00", "2200-01-01T00:00:01Z"]
)
def test_time_that_no_engine_can_compare_is_refused(time: str) -> None:
    assert faults({"listedSince": time}) == [("listedSince",)]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("location", "Uppal"),
        ("pincode", "500032"),
        ("propertyType", "APARTMENT"),
        ("listingType", "SALE"),
        ("bedrooms", "2"),
        ("bathrooms", "2+"),
        ("furnishedStatus", "FURNISHED"),
        ("amenities", "Lift"),
        ("facing", "EAST"),
        ("postedBy", "AGENT"),
    ],
)
def test_list_has_at_most_twenty_values_and_each_counts_once(name: str, value: str) -> None:
    once, twenty = (SearchFilters.model_validate({name: [value] * count}) for count in (1, 20))

    assert once == twenty
    assert faults({name: [value] * 21}) == [(name,)]


def test_every_list_has_a_bound() -> None:
    lists = {name for name, field in SearchFilters.model_fields.items() if "tuple[" in str(field.annotation)}

    assert len(lists) == 10
    assert all("max_length" in str(SearchFilters.model_fields[name].metadata) for name in lists)


def test_first_of_many_wrong_values_is_named_alone() -> None:
    wrong, ring = ["?"] * 10_000, [[78.3, 17.3]] * 4
    shapes = ["Polygon", wrong], ["Polygon", [wrong]], ["MultiPolygon", [[ring], *[wrong] * 100]]

    for name in ("propertyType", "bedrooms"):
        assert faults({name: wrong}) == [(name, 0)]
    for kind, coordinates in shapes:
        # A part that is cut short where it is wrong is too short as well.
        assert len(faults({"polygon": {"type": kind, "coordinates": coordinates}})) <= 3


def test_text_without_a_word_is_no_filter() -> None:
    assert SearchFilters(q="!!").given == SearchFilters(q="in the").given == {}
    assert SearchFilters(q="villa!", max_price=1).given == {"q": "villa!", "max_price": 1}


def faults(values: dict[str, Any]) -> list[tuple[int | str, ...]]:
    with pytest.raises(ValidationError) as refused:
        SearchFilters.model_validate(values)
    return [fault["loc"] for fault in refused.value.errors()]
