"""How well the reading of what people type agrees with people: precision and recall."""

import csv
import json
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass
from typing import Any

from domain.gazetteer import hyderabad, locality_key
from domain.place_names import words_of
from domain.reading import read_text
from embedded.paths import ROOT

PAIRS = ROOT.parent / "shared" / "data" / "locality_spelling_pairs.csv"
"""Pairs of names that people have judged: `same`, `different` or `unsure`. Absent on most machines."""
_QUERIES = ROOT / "tests" / "domain" / "queries.json"


@dataclass(frozen=True)
class Agreement:
    """How many answers there are, how many there should be, and how many are right."""

    given: int
    expected: int
    right: int

    @property
    def precision(self) -> float:
        """The share of what was answered that is right."""
        return self.right / self.given

    @property
    def recall(self) -> float:
        """The share of what should be answered that was."""
        return self.right / self.expected


def of_pairs(key: Callable[[str], str] = locality_key) -> Agreement:
    """Names that are taken for one place, because they have one key, beside those that people take for one."""
    with PAIRS.open(encoding="utf-8", newline="") as file:
        judged = [
            (pair["a"], pair["b"], pair["label"] == "same")
            for pair in csv.DictReader(file)
            if pair["label"] != "unsure"
        ]
    met = [(key(one) == key(other), is_same) for one, other, is_same in judged]
    return Agreement(
        sum(together for together, _ in met),
        sum(is_same for _, is_same in met),
        sum(together and is_same for together, is_same in met),
    )


def letters_of(name: str) -> str:
    """The baseline for pairs: a name without case, accents, spaces and punctuation."""
    return "".join(words_of(name))


def queries() -> list[tuple[str, dict[str, Any], str]]:
    """What is typed, the filters that are meant by their JSON names, and the words that are left."""
    rows = json.loads(_QUERIES.read_text(encoding="utf-8"))
    return [(text, filters, " ".join(terms)) for text, filters, *terms in rows]


def of_queries() -> Agreement:
    """Values of filters that are read from the queries, beside those that are meant."""
    given = expected = right = 0
    for text, filters, _ in queries():
        read = set(
            _values(read_text(text, hyderabad()).filters.model_dump(mode="json", by_alias=True, exclude_defaults=True))
        )
        meant: Set[tuple[str, Any]] = set(_values(filters))
        given, expected, right = given + len(read), expected + len(meant), right + len(read & meant)
    return Agreement(given, expected, right)


def _values(filters: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in filters.items():
        yield from ((name, each) for each in (value if isinstance(value, list) else [value]))
