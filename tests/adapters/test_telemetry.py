"""What is logged."""

import logging

from adapters.telemetry import NotAgain


def said(name: str, words: str, at: float) -> logging.LogRecord:
    record = logging.LogRecord(name, logging.ERROR, __file__, 1, words, (), None)
    record.created = at
    return record


def test_library_that_repeats_itself_is_heard_every_ten_seconds() -> None:
    filtered = NotAgain("aiokafka")

    heard = [at for at in range(30) if filtered.filter(said("aiokafka.client", "Unable to connect to %s", at))]

    assert heard == [0, 10, 20]


def test_other_words_and_other_loggers_are_heard_at_once() -> None:
    filtered = NotAgain("aiokafka")
    names = ("aiokafka.client", "aiokafka.consumer", "projections.runner", "projections.runner")

    assert all(filtered.filter(said(name, "broken", 0)) for name in names)
    assert filtered.filter(said("aiokafka.client", "mended", 0))
