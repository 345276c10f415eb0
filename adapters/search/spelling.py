"""Corrects misspelled words of a search by the vocabulary of what is listed."""

from collections import defaultdict

from sqlalchemy import ARRAY, Text, any_, bindparam, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.tables import listed_words
from domain.words import forms, words

_SHORTEST = 4
"""Characters of a word that may be misspelled: a shorter one has many neighbours."""
_ONE_ERROR_BELOW = 6
"""Characters from which a word may have two errors."""

_KNOWN = select(listed_words.c.word).where(listed_words.c.word == any_(bindparam("words", type_=ARRAY(Text))))
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
    for row in await connection.execute(_SIMILAR, {"words": unknown}):
        most = 1 if len(row.asked) < _ONE_ERROR_BELOW else 2
        if (errors := distance(row.asked, row.word, most)) <= most:
            likely[row.asked].append((errors, -row.listings, row.word))
    return {word: min(found)[2] for word, found in likely.items()}


async def corrected(connection: AsyncConnection, text: str) -> str:
    """The text with its misspelled words corrected."""
    instead = await corrections(connection, text)
    parts, at = [], 0
    for word in words(text):
        if word.text in instead:
            parts += [text[at : word.start], instead[word.text]]
            at = word.end
    return "".join([*parts, text[at:]])


def distance(a: str, b: str, most: int) -> int:
    """The number of errors between two words: letters missing, added, replaced, or swapped with the next one.

    Counted up to `most` and one more (optimal string alignment).
    """
    if abs(len(a) - len(b)) > most:
        return most + 1
    before: list[int] = []
    above = list(range(len(b) + 1))
    for i, letter in enumerate(a, start=1):
        row = [i]
        for j, other in enumerate(b, start=1):
            cost = min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (letter != other))
            if i > 1 and j > 1 and letter == b[j - 2] and a[i - 2] == other:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        before, above = above, row
    return min(above[-1], most + 1)
