"""Words of texts, as search compares them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.words import STOP_WORDS, forms, highlighted, singular, words


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("3BHK flat in Gachibowli", ["3", "bhk", "flat", "gachibowli"]),
        ("Café RÉSIDENCE", ["cafe", "residence"]),
        ("the owner's villa, buyer\u2019s choice", ["owner", "villa", "buyer", "choice"]),
        ("గచ్చిబౌలి లో, गाचीबोवली।", ["గచ్చిబౌలి", "లో", "गाचीबोवली"]),
        ("100m² for 1,20,000/-", ["100", "m2", "1", "20", "000"]),
        ("ﬁne", ["fine"]),
        ("' \\ & | ! : * ( ) <-> \x07 \u0301", []),
        ("", []),
    ],
)
def test_words_are_runs_of_letters_or_digits(text: str, found: list[str]) -> None:
    assert [word.text for word in words(text)] == found


@given(text=st.text(max_size=60))
def test_words_lie_in_the_text_in_order(text: str) -> None:
    at = 0
    for word in words(text):
        assert at <= word.start < word.end <= len(text)
        assert word.text
        assert len(word.text) <= 60
        assert word.text not in STOP_WORDS
        at = word.end


@pytest.mark.parametrize(
    ("plural", "one"),
    [
        ("villas", "villa"),
        ("cities", "city"),
        ("boxes", "box"),
        ("classes", "class"),
        ("churches", "church"),
        ("gas", "gas"),
        ("bus", "bus"),
        ("status", "status"),
        ("glass", "glass"),
        ("villa", "villa"),
        ("3", "3"),
    ],
)
def test_singular_of_a_plural(plural: str, one: str) -> None:
    assert singular(plural) == one


def test_parking_is_no_park() -> None:
    assert singular("parking") == "parking"
    assert "parking" not in forms("park")


@given(a=st.text("aceihsxyz", min_size=1, max_size=7), b=st.text("aceihsxyz", min_size=1, max_size=7))
def test_forms_are_all_words_with_the_same_singular(a: str, b: str) -> None:
    assert a in forms(a)
    assert all(singular(form) == singular(a) for form in forms(a))
    if singular(a) == singular(b):
        assert b in forms(a)


def test_highlight_is_html_of_the_text_with_marks() -> None:
    assert highlighted("Villas & <villa>", frozenset({"villa"})) == (
        "<mark>Villas</mark> &amp; &lt;<mark>villa</mark>&gt;"
    )
    assert highlighted("A flat", frozenset({"villa"})) is None
    around = highlighted("lorem ipsum " * 20 + "a villa here " + "dolor sit " * 20, frozenset({"villa"}), around=30)
    assert around == "…ipsum lorem ipsum lorem ipsum a <mark>villa</mark> here dolor sit dolor sit …"


@given(text=st.text(max_size=80), around=st.one_of(st.none(), st.integers(1, 20)))
def test_highlight_has_no_tags_but_marks(text: str, around: int | None) -> None:
    found = [word.text for word in words(text)]
    html = highlighted(text, frozenset(map(singular, found)), around)

    assert (html is None) == (not found)
    rest = (html or "").replace("<mark>", "").replace("</mark>", "")
    assert "<" not in rest
    assert ">" not in rest
