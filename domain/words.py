"""Words of texts as search compares them: without case, accents, and the difference of singular and plural."""

import re
import unicodedata
from collections.abc import Iterator
from html import escape
from typing import NamedTuple

# A run of digits or of letters, so that `3BHK` and `3 BHK` are the same words. Indic vowel signs are no letters for
# Python, although a word has them inside; U+0964 and U+0965 are punctuation. A possessive ending is no word.
_WORD = re.compile("['\u2019]s(?![^\\W_])|[0-9]+|(?:[^\\W0-9_]|[\u0300-\u036f\u0900-\u0963\u0970-\u0dff])+")
_ACCENTS = re.compile("[\u0300-\u036f]")
_LONGEST = 60
"""Characters of a word that count: no word is longer, and Postgres indexes no longer text than 2 kB."""
_PART = 100
"""Characters of a text that are looked at together for a word: few beside a long text, many beside a word."""
_IN_VAIN = 8
"""Parts of a text without a wanted word, but with its letters, and other than ASCII, that are read by words."""
STOP_WORDS = frozenset(
    {"a", "an", "and", "are", "as", "at", "be", "by", "for", "from", "in", "is", "it"}
    | {"of", "on", "or", "the", "this", "to", "with"}
)
"""Words in nearly every text, which say nothing about it: neither indexed nor searched."""


class Word(NamedTuple):
    """A word of a text, as it is compared, and its place in the text."""

    text: str
    start: int
    end: int


def without_accents(text: str) -> str:
    """The text with its accents left out and its compatibility characters decomposed (NFKD); Indic signs stay."""
    return text if text.isascii() else _ACCENTS.sub("", unicodedata.normalize("NFKD", text))


def words(text: str) -> Iterator[Word]:
    """The words of a text, in order, without STOP_WORDS."""
    return (word for word in _all_words(text, 0, len(text)) if word.text not in STOP_WORDS)


def singular(word: str) -> str:
    """The form by which singular and plural of a word are the same: the s-stemmer of Harman (1991).

    A stemmer that removes more, such as Snowball's, would take `parking` for `park`.
    """
    if len(word) < 4 or not word.endswith("s") or not word.isascii():
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("sses", "shes", "ches", "xes", "zes")):
        return word[:-2]
    return word if word.endswith(("ss", "us", "is")) else word[:-1]


def forms(word: str) -> tuple[str, ...]:
    """Every word with the same `singular`, the word itself among them."""
    base = singular(word)
    possible = (base, base + "s", base + "es", base[:-1] + "ies" if base.endswith("y") else base)
    return tuple(sorted({word, *(form for form in possible if singular(form) == base)}))


def highlighted(text: str, wanted: frozenset[str], around: int | None = None) -> str | None:
    """HTML of a text with the words in `<mark>` whose `singular` is wanted; None where there is none.

    `around` is the number of characters to show before and after the first of them; without it, the whole text.
    """
    first = next(_wanted_words(text, wanted, 0, len(text)), None)
    if first is None:
        return None
    start, end = 0, len(text)
    if around is not None:
        start = _boundary(text, first.start - around)
        end = max(first.end, _boundary(text, first.end + around))
    parts, at = ["…" if start > 0 else ""], start
    for word in _wanted_words(text, wanted, first.start, end):
        parts += [escape(text[at : word.start]), "<mark>", escape(text[word.start : word.end]), "</mark>"]
        at = word.end
    return "".join([*parts, escape(text[at:end]), "…" if end < len(text) else ""])


def _wanted_words(text: str, wanted: frozenset[str], start: int, end: int) -> Iterator[Word]:
    """The words between two places of a text whose `singular` is wanted, in order.

    To decompose each word of a long text takes milliseconds. So it is read by words only where it has the letters of a
    wanted one, and no further when that was in vain too often: a page of listings must not hold up the process.
    """
    letters = {part for word in wanted for part in (word, word[:-1] + "ies" if word.endswith("y") else word)}
    in_vain = 0
    for first, last in _parts(text, start, end):
        plain = without_accents(text[first:last]).casefold()
        if not any(each in plain for each in letters):
            continue
        every = (word for word in _all_words(text, first, last) if word.text not in STOP_WORDS)
        found = [word for word in every if singular(word.text) in wanted]
        in_vain += not found and not text[first:last].isascii()
        if in_vain > _IN_VAIN:
            return
        yield from found


def _parts(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Parts of at least _PART characters, each of which ends at `end` or before a space, so that no word is split."""
    while start < end:
        space = text.find(" ", start + _PART, end)
        last = end if space < 0 else space
        yield start, last
        start = last


def _all_words(text: str, start: int, end: int) -> Iterator[Word]:
    for found in _WORD.finditer(text, start, end):
        if word := _plain(found.group()):
            yield Word(word, found.start(), found.end())


def _plain(word: str) -> str:
    """A match of _WORD as it is compared; empty if it is no word."""
    if word.isascii():
        return "" if word[0] == "'" else word.lower()[:_LONGEST]
    return "" if word[0] == "\u2019" else without_accents(word).casefold()[:_LONGEST]


def _boundary(text: str, at: int) -> int:
    """The nearest place at or before `at` where a word begins; the bounds of the text where `at` is outside."""
    if at <= 0 or at >= len(text):
        return 0 if at <= 0 else len(text)
    space = text.rfind(" ", 0, at)
    return space + 1
