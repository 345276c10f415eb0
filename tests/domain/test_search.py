"""What can be asked of a search."""

from datetime import UTC, datetime, timedelta

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
