"""What people may mean while they type: localities, projects and their own past searches, likeliest first."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from domain.edit_distance import edit_distance
from domain.gazetteer import Gazetteer
from domain.place_names import words_of

MOST = 20
"""Suggestions of one answer."""
_OWN = 3
"""Past searches of one answer: more would hide what somebody has not searched for yet."""
_SHORTEST_MISTAKE = 4
"""Letters from which on a beginning may have an error; from twice as many, two."""
_WORDS_OF_A_NAME, _LETTERS_OF_A_NAME = 4, 40
"""The last words of a text that may begin a name, and their letters: each place to begin at is looked up by itself."""
_OWNERS_OF_A_NAME = 3
"""A name that so many owners write is one of a project, or of a locality that no gazetteer has; what one or two write
in any number of listings may be anything."""
_DIGITS_OF_A_NAME = 5
"""More digits, as in `call 98480 22338`, are no name."""


class Kind(StrEnum):
    """What a suggestion is."""

    LOCALITY = "LOCALITY"
    PROJECT = "PROJECT"
    SEARCH = "SEARCH"


@dataclass(frozen=True)
class Suggestion:
    """A text to search for."""

    text: str
    kind: Kind
    latitude: float | None = None
    longitude: float | None = None


@dataclass(frozen=True)
class ListedName:
    """A locality, or what may be the name of a project, with the number of owners who have it in a listing."""

    name: str
    kind: Kind
    owners: int

    @property
    def is_common(self) -> bool:
        """Whether it is the name of something."""
        digits = sum(letter.isdigit() for letter in self.name)
        return self.owners >= _OWNERS_OF_A_NAME and digits <= _DIGITS_OF_A_NAME


@dataclass(frozen=True)
class _Entry:
    suggestion: Suggestion
    owners: int
    size: int
    other_name: bool = False
    """Whether it is found by an alias."""
    inside: bool = False
    """Whether it is found by a later word of its name."""


class SuggestionIndex:
    """Completes the beginnings of names. It is built once for many questions, and asked in well under a millisecond."""

    def __init__(self, gazetteer: Gazetteer, listed: Iterable[ListedName]) -> None:
        """The localities of the gazetteer, and what is listed."""
        counts: dict[str, int] = {}
        unknown: dict[str, ListedName] = {}
        projects: dict[str, ListedName] = {}
        for name in sorted(listed, key=lambda name: -name.owners):
            key = gazetteer.key(name.name)
            if name.kind is Kind.LOCALITY:
                counts[key] = counts.get(key, 0) + name.owners
                if name.is_common:
                    unknown.setdefault(key, name)
            elif name.is_common and not gazetteer.named(name.name):
                projects.setdefault(key, name)
        named: dict[str, list[_Entry]] = {}
        for locality in gazetteer.localities:
            place = Suggestion(locality.label, Kind.LOCALITY, locality.latitude, locality.longitude)
            entry = _Entry(place, counts.get(locality.key, 0), locality.size)
            unknown.pop(locality.key, None)
            _add(named, locality.name, entry)
            for alias in gazetteer.aliases(locality):
                named.setdefault("".join(words_of(alias)), []).append(replace(entry, other_name=True))
        for key, other in unknown.items():
            _add(named, other.name, _Entry(Suggestion(other.name, Kind.LOCALITY), counts[key], 0))
        for key, project in projects.items():
            if key in counts:
                continue  # a locality, which many titles name as well
            _add(named, project.name, _Entry(Suggestion(project.name, Kind.PROJECT), project.owners, 0))
        self._names = sorted(named)
        self._entries = [named[name] for name in self._names]

    def complete(self, typed: str, past: Sequence[str] = (), limit: int = 10) -> list[Suggestion]:
        """The suggestions for what is typed: one's own searches first, then names that begin so, then similar ones.

        If no name begins with the whole text, the last words are completed: `2 bhk gach` is `2 bhk Gachibowli`.
        """
        words = words_of(typed)
        if not words:
            return []
        found = dict.fromkeys(self._own(words, past))
        for start in range(max(0, len(words) - _WORDS_OF_A_NAME), len(words)):
            rest = words[start:]
            if sum(map(len, rest)) > _LETTERS_OF_A_NAME:
                continue
            names = self._beginning(rest) or self._similar(rest)
            if names:
                lead = " ".join([*words[:start], ""])
                for one in names[:limit]:
                    found.setdefault(Suggestion(lead + one.text, one.kind, one.latitude, one.longitude))
                break
        return list(found)[:limit]

    def _own(self, words: Sequence[str], past: Sequence[str]) -> list[Suggestion]:
        beginning = "".join(words)
        mine = [text for text in past if "".join(words_of(text)).startswith(beginning)]
        return [Suggestion(text, Kind.SEARCH) for text in dict.fromkeys(mine)][:_OWN]

    def _beginning(self, words: Sequence[str]) -> list[Suggestion]:
        beginning = "".join(words)
        low = bisect_left(self._names, beginning)
        return self._ranked((0, i) for i in range(low, bisect_right(self._names, beginning + "\uffff", lo=low)))

    def _similar(self, words: Sequence[str]) -> list[Suggestion]:
        """Names whose beginning is typed with errors, but for the first letter."""
        beginning = "".join(words)
        if len(beginning) < _SHORTEST_MISTAKE or not beginning.isalpha():
            return []
        at_most = 1 if len(beginning) < 2 * _SHORTEST_MISTAKE else 2
        low, high = bisect_left(self._names, beginning[0]), bisect_right(self._names, beginning[0] + "\uffff")
        near = []
        for i in range(low, high):
            name = self._names[i]
            # A letter too few or too many moves the end of the beginning by one.
            errors = edit_distance(beginning, name[: len(beginning)], at_most + 1)
            if errors <= at_most + 1:
                for length in (len(beginning) - 1, len(beginning) + 1):
                    errors = min(errors, edit_distance(beginning, name[:length], at_most))
                if errors <= at_most:
                    near.append((errors, i))
        return self._ranked(near)

    def _ranked(self, found: Iterable[tuple[int, int]]) -> list[Suggestion]:
        best: dict[Suggestion, tuple[int, int, int, int, str]] = {}
        for errors, i in found:
            for entry in self._entries[i]:
                rank = (errors, entry.inside + entry.other_name, -entry.owners, -entry.size, entry.suggestion.text)
                best[entry.suggestion] = min(rank, best.get(entry.suggestion, rank))
        return sorted(best, key=best.__getitem__)


def _add(named: dict[str, list[_Entry]], name: str, entry: _Entry) -> None:
    """Under the name without spaces, and from each of its later words on."""
    words = words_of(name)
    for start in range(len(words)):
        named.setdefault("".join(words[start:]), []).append(replace(entry, inside=start > 0))
