"""Corrects misspelled words of a search by the vocabulary of what is listed."""

from collections import defaultdict

from sqlalchemy import ARRAY, Text, any_, bindparam, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.tables import listed_words
from domain.edit_distance import edit_distance
from domain.words import forms, words

_SHORTEST = 4
"""Characters of a word that may be misspelled: a shorter one has many neighbours."""
_ONE_ERROR_BELOW = 6
"""Characters from which a word may have two errors."""

_USUAL = 5
"""Listings from which on a word is one that people use, and no mistake."""

_KNOWN = select(listed_words.c.word).where(listed_words.c.word == any_(bindparam("words", type_=ARRAY(Text))))
_IN_USE = _KNOWN.where(listed_words.c.listings >= _USUAL)
_COUNTED = _KNOWN.add_columns(listed_words.c.listings)
_asked = func.unnest(bindparam("words", type_=ARRAY(Text))).table_valued("word", name="asked").render_derived()
_SIMILAR = select(_asked.c.word.label("asked"), listed_words.c.word, listed_words.c.listings).where(
    listed_words.c.word.bool_op("%")(_asked.c.word)  # of pg_trgm; its index serves it
)


async def corrections(connection: AsyncConnection, text: str) -> dict[str, str]:
    """For each word of a text that no listing of the connection's tenant has, the most likely one that some have.

    Words without a likely one are absent.
    """
    asked = {word.text: forms(word.text) for word in words(text)}
    every = [form for group in asked.values() for form in group]
    known = {row.word for row in await connection.execute(_KNOWN, {"words": every})}
    unknown = [
        word for word, group in asked.items() if known.isdisjoint(group) and len(word) >= _SHORTEST and word.isalpha()
    ]
    if not unknown:
        return {}
    likely: dict[str, list[tuple[int, int, str]]] = defaultdict(list)
    # Two letters that changed places leave a short word with no trigram of the right one.
    swapped = [(word, other) for word in unknown for other in _swapped(word)]
    counted = await connection.execute(_COUNTED, {"words": [other for _, other in swapped]})
    listings = {row.word: row.listings for row in counted}
    for word, other in swapped:
        if other in listings:
            likely[word].append((1, -listings[other], other))
    for row in await connection.execute(_SIMILAR, {"words": unknown}):
        most = 1 if len(row.asked) < _ONE_ERROR_BELOW else 2
        if (errors := edit_distance(row.asked, row.word, most)) <= most:
            likely[row.asked].append((errors, -row.listings, row.word))
    return {word: min(found)[2] for word, found in likely.items()}


def _swapped(word: str) -> list[str]:
    """The word with each letter and the next one in each other's place, but for the first."""
    return [word[:i] + word[i + 1] + word[i] + word[i + 2 :] for i in range(1, len(word) - 1)]


async def in_use(connection: AsyncConnection, text: str) -> frozenset[str]:
    """The words of a text that several listings of the connection's tenant have."""
    asked = [word.text for word in words(text)]
    return frozenset((await connection.execute(_IN_USE, {"words": asked})).scalars())


async def corrected(connection: AsyncConnection, text: str) -> str:
    """The text with its misspelled words corrected."""
    instead = await corrections(connection, text)
    parts, at = [], 0
    for word in words(text):
        if word.text in instead:
            parts += [text[at : word.start], instead[word.text]]
            at = word.end
    return "".join([*parts, text[at:]])
