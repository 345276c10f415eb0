"""How the text of a search was read, and the search with the filters that were read from it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from domain.search import SearchFilters, SearchQuery

RANGES = ("price", "area", "floor")
"""Fields with two ends: `min_price`, `max_price`."""
_ENDS = ({"bedrooms", "min_bedrooms"}, *({f"min_{name}", f"max_{name}"} for name in RANGES))


@dataclass(frozen=True)
class Interpretation:
    """How a text was read."""

    filters: SearchFilters
    """Without `q`."""
    terms: tuple[str, ...]
    """The words left over, as they were typed."""
    words: Mapping[str, tuple[str, ...]]
    """By field of `filters`: the words that it was read from."""


def with_filters_of(read: Interpretation, asked: SearchQuery) -> tuple[SearchQuery, Mapping[str, tuple[str, ...]]]:
    """A search with the filters that were read from its text, and the words of each; the text keeps the terms.

    What was asked for by itself wins: a field over the same one, and an end of a range over both ends.
    """
    given = set(asked.given)
    for ends in _ENDS:
        given |= ends if given & ends else set()
    filters = {name: value for name, value in read.filters.given.items() if name not in given}
    changed = asked.model_copy(update={**filters, "q": " ".join(read.terms) or None})
    return changed, {name: words for name, words in read.words.items() if name in filters}


def changes_by_reading(asked: SearchQuery, read: SearchQuery) -> dict[str, Any]:
    """What the reading of a search has changed, as JSON values by field."""
    changed = {name for name in SearchFilters.model_fields if getattr(asked, name) != getattr(read, name)}
    return read.model_dump(mode="json", include=changed)


def read_before(asked: SearchQuery, changes: Mapping[str, Any]) -> SearchQuery:
    """A search as it was read when its `changes_by_reading` were kept."""
    filters = SearchFilters.model_validate({name: value for name, value in changes.items() if name != "q"})
    # Corrected words may make a text longer than one that can be sent.
    text = {"q": changes["q"]} if "q" in changes else {}
    return asked.model_copy(update={name: getattr(filters, name) for name in changes} | text)
