"""Precision and recall of the reading, which `python -m bench.reading` prints: a change that makes it worse fails."""

import pytest

from tests.relevance.reading import PAIRS, Agreement, letters_of, of_pairs, of_queries, queries

FLOOR = 0.98


def test_what_people_type_is_read_as_they_mean_it() -> None:
    assert len(queries()) >= 60
    read = of_queries()
    assert read.precision >= FLOOR
    assert read.recall >= FLOOR


@pytest.mark.skipif(not PAIRS.exists(), reason=f"{PAIRS}, which is not part of the project, is not on this machine")
def test_names_that_people_judged_meet_or_stay_apart_as_they_do() -> None:
    met, plain = of_pairs(), of_pairs(letters_of)
    assert met.precision >= FLOOR
    assert met.recall >= FLOOR
    assert plain.recall < met.recall, "to compare letters alone is not as good"


def test_precision_and_recall_are_shares_of_what_is_given_and_expected() -> None:
    some = Agreement(given=4, expected=6, right=3)
    assert (some.precision, some.recall) == (0.75, 0.5)
