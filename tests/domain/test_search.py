"""What can be asked of a search."""

from datetime import UTC, datetime, timedelta

from domain.search import SearchFilters


def test_time_without_a_zone_is_in_utc() -> None:
    filters = SearchFilters.model_validate(
        {"listedSince": "2026-11-01T10:00:00", "changedSince": "2026-11-01T10:00:00+05:30"}
    )

    assert filters.listed_since == datetime(2026, 11, 1, 10, tzinfo=UTC)
    assert filters.changed_since == datetime(2026, 11, 1, 10, tzinfo=UTC) - timedelta(hours=5, minutes=30)
