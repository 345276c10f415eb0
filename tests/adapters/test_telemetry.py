"""Rate-limited logging."""

import logging

from adapters.telemetry import RateLimitFilter


def record(name: str, line: int, at: float) -> logging.LogRecord:
    made = logging.LogRecord(name, logging.ERROR, __file__, line, "broken", (), None)
    made.created = at
    return made


def test_repeated_record_is_logged_every_ten_seconds() -> None:
    filtered = RateLimitFilter("aiokafka")

    logged = [at for at in range(30) if filtered.filter(record("aiokafka.client", 1, at))]

    assert logged == [0, 10, 20]


def test_records_of_other_lines_and_loggers_are_logged() -> None:
    filtered = RateLimitFilter("aiokafka")

    assert all(filtered.filter(record("aiokafka.client", line, 0)) for line in (1, 2))
    assert all(filtered.filter(record("projections.runner", 1, 0)) for _ in range(2))
