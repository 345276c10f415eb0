"""What is logged."""

import logging

from adapters.telemetry import RateLimitFilter


def said(name: str, line: int, at: float) -> logging.LogRecord:
    record = logging.LogRecord(name, logging.ERROR, __file__, line, "broken", (), None)
    record.created = at
    return record


def test_library_that_repeats_itself_is_heard_every_ten_seconds() -> None:
    filtered = RateLimitFilter("aiokafka")

    heard = [at for at in range(30) if filtered.filter(said("aiokafka.client", 1, at))]

    assert heard == [0, 10, 20]


def test_other_lines_and_other_loggers_are_heard_at_once() -> None:
    filtered = RateLimitFilter("aiokafka")

    assert all(filtered.filter(said("aiokafka.client", line, 0)) for line in (1, 2))
    assert all(filtered.filter(said("projections.runner", 1, 0)) for _ in range(2))
