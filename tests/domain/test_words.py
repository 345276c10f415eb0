"""Words of texts, as search compares them."""

from html import escape

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


_PIECES = st.sampled_from(
    [
        *("villa", "Villas", "VILLÀ", "party", "parties", "प्लॉट", "విల్లా", "ﬁne", "villas's", "nine2villa", "navilla"),
        *("  ", "\n", " ", "-", "&", "é", "e\u0301", "lorem ipsum " * 10, "ಮನೆ " * 30),
    ]
)


@given(pieces=st.lists(_PIECES, max_size=40), around=st.one_of(st.none(), st.integers(1, 150)))
def test_highlight_marks_all_wanted_words_of_what_it_shows(pieces: list[str], around: int | None) -> None:
    text, wanted = "".join(pieces), frozenset(map(singular, ("villa", "party", "प्लॉट", "fine")))
    marked = [word for word in words(text) if singular(word.text) in wanted]

    html = highlighted(text, wanted, around)

    if not marked:
        assert html is None
        return
    assert html is not None
    first = marked[0].start if around is None else max(0, marked[0].start - around)
    last = len(text) if around is None else marked[0].end + around
    start = 0 if first == 0 else text.rfind(" ", 0, first) + 1
    end = len(text) if last >= len(text) else max(marked[0].end, text.rfind(" ", 0, last) + 1)
    parts, at = ["…" if start else ""], start
    for word in marked:
        if word.end <= end:
            parts += [escape(text[at : word.start]), "<mark>", escape(text[word.start : word.end]), "</mark>"]
            at = word.end
    assert html == "".join([*parts, escape(text[at:end]), "…" if end < len(text) else ""])


def test_highlight_gives_up_on_a_text_with_the_letters_of_a_word_and_never_the_word() -> None:
    wanted = frozenset({"villa"})
    assert highlighted("navillanga é " * 400 + " villa", wanted, around=20) is None
    assert highlighted("navillanga e " * 400 + " villa", wanted, around=20) is not None
