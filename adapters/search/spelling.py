"""Corrects misspelled words of a search by the vocabulary of what is listed.

What one owner writes, in however many listings, may be a mistake or a trick; a word that several use is a word.
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

from sqlalchemy import ARRAY, Integer, Text, any_, bindparam, func, literal, select, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.search.conditions import matches
from adapters.search.rows import quoted
from adapters.tables import listed_words, listings
from domain.edit_distance import edit_distance
from domain.words import forms, words

_SHORTEST = 4
"""Characters of a word that may be misspelled: a shorter one has many neighbours."""
_ONE_ERROR_BELOW = 6
"""Characters from which a word may have two errors."""
_IN_USE = 3
"""Owners from which on a word is one that people use."""
_COMMONER = 10
"""Times as many listings as a word of fewer owners the word has that it is corrected to: theirs may be a name."""
_READ = 200
"""Listings with a word up to which their owners are counted, a millisecond or two; above it has several."""

_LISTINGS = select(listed_words.c.word, listed_words.c.listings).where(
    listed_words.c.word == any_(bindparam("words", type_=ARRAY(Text)))
)
_asked = func.unnest(bindparam("words", type_=ARRAY(Text))).table_valued("word", name="asked").render_derived()
_SIMILAR = select(_asked.c.word.label("asked"), listed_words.c.word, listed_words.c.listings).where(
    listed_words.c.word.bool_op("%")(_asked.c.word)  # of pg_trgm; its index serves it
)


class _Usage(NamedTuple):
    """How many listings have a word in singular or plural, and how many owners these have, up to _IN_USE."""

    listings: int
    owners: int


async def corrections(connection: AsyncConnection, text: str) -> dict[str, str]:
    """For each word of a text that is hardly listed by the connection's tenant, the most likely one that is.

    A word that no listing has is corrected by any that some have, and a word of one or two owners by one that is much
    commoner and an error away. Words without a likely one are absent.
    """
    usage = await _usage(connection, text)
    rare = {
        word: used.listings
        for word, used in usage.items()
        if used.owners < _IN_USE and len(word) >= _SHORTEST and word.isalpha()
    }
    if not rare:
        return {}
    likely: dict[str, list[tuple[int, int, str]]] = defaultdict(list)

    def add(word: str, other: str, errors: int, listings: int) -> None:
        if not rare[word] or (errors == 1 and listings >= _COMMONER * rare[word] and other not in forms(word)):
            likely[word].append((errors, -listings, other))

    # Two letters that changed places leave a short word with no trigram of the right one.
    swapped = [(word, other) for word in rare for other in _swapped(word)]
    known = await _listings_of(connection, [other for _, other in swapped])
    for word, other in swapped:
        if other in known:
            add(word, other, 1, known[other])
    for row in await connection.execute(_SIMILAR, {"words": list(rare)}):
        most = 1 if len(row.asked) < _ONE_ERROR_BELOW else 2
        if 0 < (errors := edit_distance(row.asked, row.word, most)) <= most:
            add(row.asked, row.word, errors, row.listings)
    return {word: min(found)[2] for word, found in likely.items()}


def _swapped(word: str) -> list[str]:
    """The word with each letter and the next one in each other's place, but for the first."""
    return [word[:i] + word[i + 1] + word[i] + word[i + 2 :] for i in range(1, len(word) - 1)]


async def in_use(connection: AsyncConnection, text: str) -> frozenset[str]:
    """The words of a text that several owners of the connection's tenant have in their listings."""
    usage = await _usage(connection, text)
    return frozenset(word for word, used in usage.items() if used.owners >= _IN_USE)


async def corrected(connection: AsyncConnection, text: str) -> str:
    """The text with its misspelled words corrected."""
    instead = await corrections(connection, text)
    parts, at = [], 0
    for word in words(text):
        if word.text in instead:
            parts += [text[at : word.start], instead[word.text]]
            at = word.end
    return "".join([*parts, text[at:]])


async def _usage(connection: AsyncConnection, text: str) -> Mapping[str, _Usage]:
    """The usage of each word of a text."""
    asked = {word.text: forms(word.text) for word in words(text)}
    known = await _listings_of(connection, [form for group in asked.values() for form in group])
    counts = {word: sum(known.get(form, 0) for form in group) for word, group in asked.items()}
    few = [word for word, count in counts.items() if _IN_USE <= count <= _READ]
    owners = dict(zip(few, await _owners_of(connection, few), strict=True))
    return {word: _Usage(count, min(owners.get(word, count), _IN_USE)) for word, count in counts.items()}


async def _listings_of(connection: AsyncConnection, every: list[str]) -> Mapping[str, int]:
    """The number of listings with each of these words; words without any are absent."""
    return {row.word: row.listings for row in await connection.execute(_LISTINGS, {"words": every})}


async def _owners_of(connection: AsyncConnection, rare: list[str]) -> list[int]:
    """The number of owners who have each of these words in a listing."""
    if not rare:
        return []
    owners = func.count(listings.c.owner_id.distinct())
    queries = (" | ".join(map(quoted, forms(word))) for word in rare)
    counted = (
        select(literal(n, Integer).label("n"), owners.label("owners")).where(matches(query))
        for n, query in enumerate(queries)
    )
    found = {row.n: row.owners for row in await connection.execute(union_all(*counted))}
    return [found[n] for n in range(len(rare))]
