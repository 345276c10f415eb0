"""Completing what somebody types."""

import pytest

from domain import suggestions
from domain.edit_distance import edit_distance
from domain.gazetteer import hyderabad
from domain.suggestions import Kind, ListedName, SuggestionIndex

INDEX = SuggestionIndex(
    hyderabad(),
    [
        ListedName("Gachibowli", Kind.LOCALITY, 40),
        ListedName("gachi bowli", Kind.LOCALITY, 20),
        ListedName("Gandipet", Kind.LOCALITY, 50),
        ListedName("Zirconpally", Kind.LOCALITY, 3),
        ListedName("My Home Bhooja", Kind.PROJECT, 5),
        ListedName("Gachibowli", Kind.PROJECT, 5),
        ListedName("Ravi's House", Kind.PROJECT, 2),
        ListedName("Ravi Call 98480 22338", Kind.PROJECT, 9),
        ListedName("Ravinagar 98480 22338", Kind.LOCALITY, 9),
        ListedName("Ravipally", Kind.LOCALITY, 2),
        ListedName("Tower 2026 Ravi", Kind.PROJECT, 3),
    ],
)


def texts(typed: str, past: tuple[str, ...] = (), limit: int = 10) -> list[str]:
    return [one.text for one in INDEX.complete(typed, past, limit)]


def test_most_listed_locality_comes_first_and_known_ones_have_a_point() -> None:
    first, second = INDEX.complete("ga", limit=2)
    assert (first.text, first.kind, first.latitude, first.longitude) == ("Gachibowli", Kind.LOCALITY, 17.44, 78.349)
    assert second.text == "Gandipet"


@pytest.mark.parametrize(
    ("typed", "first"),
    [
        ("hitech", "HITEC City"),
        ("HITEC C", "HITEC City"),
        ("gachi b", "Gachibowli"),
        ("gahcib", "Gachibowli"),
        ("gacibo", "Gachibowli"),
        ("banjar hil", "Banjara Hills"),
        ("hills", "Banjara Hills"),
        ("ameer", "Ameerpet"),
        ("meer", "Meerpet"),
        ("my ho", "My Home Bhooja"),
        ("bhoo", "My Home Bhooja"),
        ("zirc", "Zirconpally"),
        ("2 bhk gach", "2 bhk Gachibowli"),
    ],
)
def test_beginning_is_completed(typed: str, first: str) -> None:
    assert texts(typed)[0] == first


def test_name_of_a_locality_is_no_project() -> None:
    assert [one.kind for one in INDEX.complete("gachibowli")] == [Kind.LOCALITY]


def test_what_few_owners_write_and_telephone_numbers_are_no_names() -> None:
    assert texts("ravi") == ["Raviryal", "Tower 2026 Ravi"]


def test_namesakes_are_told_apart() -> None:
    assert [text for text in texts("kondapur") if "Kondapur" in text] == ["Kondapur", "Kondapur (Sangareddy)"]


def test_own_searches_come_first_and_are_few() -> None:
    past = ("gachibowli villa", "gachibowli villa", "flat in uppal", *(f"gach {n}" for n in range(9)))
    assert texts("gach", past)[:4] == ["gachibowli villa", "gach 0", "gach 1", "Gachibowli"]
    assert INDEX.complete("gach", past)[0].kind is Kind.SEARCH


def test_nothing_is_suggested_for_nothing_and_for_what_is_like_nothing() -> None:
    assert texts("") == texts("...") == texts("zzzzzz") == []
    assert len(texts("k", limit=3)) == 3


def test_only_the_last_words_of_a_long_text_are_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = 0

    def counted(a: str, b: str, at_most: int) -> int:
        nonlocal compared
        compared += 1
        return edit_distance(a, b, at_most)

    monkeypatch.setattr(suggestions, "edit_distance", counted)
    counts = []
    for typed in ("sazz sazz sazz sazz", "sazz " * 50, "sazzsazzsazz " * 19, "s" * 254):
        compared = 0
        assert texts(typed) == []
        counts.append(compared)

    assert 0 < counts[0] == counts[1] >= counts[2]
    assert counts[3] == 0
    assert texts("well " * 20 + "gachib") == ["well " * 20 + "Gachibowli"]
