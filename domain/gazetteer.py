"""The localities of Hyderabad: which spellings name the same place, and which places a text names.

`spelling` leaves out what differs between the ways to write a name, and `localities.csv` adds the aliases that no rule
finds. Places whose names are only alike stay apart: Ameerpet and Meerpet, Lingampally and Bagh Lingampally.
"""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from math import cos, hypot, radians
from pathlib import Path
from string import capwords

from domain.edit_distance import edit_distance
from domain.place_names import errors_in, readable, shortened, spelling, without_additions, without_city, words_of

NAMESAKE_KM = 10.0
"""Of two places of one name, a listing belongs to the smaller one when its point is that near to it."""
NEIGHBOUR_KM = 4.0
"""Two names joined by a hyphen are a place and its neighbour when they are that near to each other."""

_LOCALITIES = Path(__file__).with_name("localities.csv")


@dataclass(frozen=True)
class Locality:
    """A place in or around Hyderabad."""

    name: str
    label: str
    """The name; with the parent where the name alone means another place."""
    key: str
    """The same for all spellings of the place, and of no other place."""
    latitude: float
    longitude: float
    parent: str | None
    """The name of the bigger place that it is in."""
    size: int
    """3 for what everybody in the city knows, 1 for what its neighbours know."""

    def km_from(self, latitude: float, longitude: float) -> float:
        """The distance to a point, on a plane: within the region that is right to a thousandth."""
        east = (longitude - self.longitude) * cos(radians(self.latitude))
        return hypot(latitude - self.latitude, east) * 111.195


class Gazetteer:
    """Localities by all their spellings."""

    def __init__(self, entries: Iterable[tuple[Locality, Iterable[str]]]) -> None:
        """From localities with their aliases. Of several with one name, the name alone means the first."""
        self.localities: list[Locality] = []
        self.words: set[str] = set()
        """The words of all names."""
        self._by_spelling: dict[str, list[Locality]] = {}
        self._written: dict[str, set[str]] = {}
        """The names of each spelling without spaces, and without parents."""
        self._longest = 1
        self._aliases: dict[str, tuple[str, ...]] = {}
        self._labels: dict[str, str] = {}
        for locality, aliases in entries:
            self.localities.append(locality)
            self._labels[locality.key] = locality.label
            aliases = self._aliases[locality.key] = tuple(aliases)
            for name in (locality.name, *aliases):
                words = words_of(name)
                self._written.setdefault(self._add(words, locality), set()).add("".join(words))
                if locality.parent:
                    self._add(words_of(f"{name} {locality.parent}"), locality)

    def _add(self, words: list[str], locality: Locality) -> str:
        name = spelling(" ".join(words))
        known = self._by_spelling.setdefault(name, [])
        if locality not in known:
            known.append(locality)
        self.words.update(words)
        self._longest = max(self._longest, len(words))
        return name

    def aliases(self, locality: Locality) -> tuple[str, ...]:
        """The other names of a locality."""
        return self._aliases[locality.key]

    def named(self, name: str) -> list[Locality]:
        """The places that a name means, the one that is usually meant first; none when it is unknown.

        What is around the name in an address is left out: city and state, `Phase 4`, `Road No 12`, and of several parts
        between commas all but the first that names a place; a later part decides between places of one name.
        """
        parts = [part for part in map(without_city, name.split(",")) if part]
        if whole := self._spelt(" ".join(words_of(name))) or self._spelt(" ".join(parts)):
            return whole
        for i, part in enumerate(parts):
            found = self._spelt(part)
            if len(found) > 1:
                parents = {spelling(later) for later in parts[i + 1 :]}
                inside = [place for place in found if place.parent and spelling(place.parent.lower()) in parents]
                return inside or found
            if found:
                return found
        return self._with_neighbour(name)

    def _with_neighbour(self, name: str) -> list[Locality]:
        """The place of a name such as `Moti Nagar-Erragadda`, if the two are near to each other."""
        first, _, second = name.split(",")[0].partition("-")
        near = self._spelt(without_city(second))
        return [
            place
            for place in self._spelt(without_city(first))
            if any(place.km_from(other.latitude, other.longitude) <= NEIGHBOUR_KM for other in near)
        ]

    def _spelt(self, name: str) -> list[Locality]:
        found = self._by_spelling.get(spelling(name))
        if found is None and " " in name:
            found = self._by_spelling.get(spelling(without_additions(name)))
        return found or []

    def match(self, words: Sequence[str], start: int) -> tuple[list[Locality], int] | None:
        """The places that the words from `start` on name, and where the name ends: the longest name there is.

        A comma or hyphen may stand within: `kondapur, sangareddy`.
        """
        if not words[start][0].isalnum():
            return None
        for end in range(min(len(words), start + self._longest), start, -1):
            if words[end - 1][0].isalnum():
                name = " ".join(word for word in words[start:end] if word not in ",-")
                if found := self._by_spelling.get(spelling(name)):
                    return found, end
        return None

    def corrected(self, name: str) -> list[Locality]:
        """The places whose name a misspelled one is nearest to; none when it is near to none, or as near to several.

        One wrong letter is corrected in a short name and two in a long one, but never the first one.
        """
        wrong = spelling(name)
        at_most = errors_in(wrong)
        if not at_most:
            return []
        joined = name.replace(" ", "")
        near: dict[int, list[str]] = {}
        for known in {known for shorter in shortened(wrong, at_most) for known in self._by_deletion.get(shorter, ())}:
            distance = edit_distance(wrong, known, min(at_most, errors_in(known)))
            if distance <= min(at_most, errors_in(known)) and known[0] == wrong[0]:
                typed = min(edit_distance(joined, written, 3) for written in self._written[known])
                if typed <= at_most + 1:
                    near.setdefault(distance * 4 + typed, []).append(known)
        if not near:
            return []
        best = {place.key: place for known in near[min(near)] for place in self._by_spelling[known][:1]}
        return self._by_spelling[near[min(near)][0]] if len(best) == 1 else []

    @cached_property
    def _by_deletion(self) -> dict[str, list[str]]:
        """Spellings by what is left of them without one or two letters (symmetric deletion, as in SymSpell)."""
        by_deletion: dict[str, list[str]] = {}
        for known in self._written:
            for shorter in shortened(known, errors_in(known)):
                by_deletion.setdefault(shorter, []).append(known)
        return by_deletion

    def key(self, name: str, latitude: float | None = None, longitude: float | None = None) -> str:
        """What all spellings of a locality share, listed or searched for: the name of a known one in lower case.

        Of an unknown name only the commonest differences are left out, so that it can be read: facets show it. A
        listing's point decides between places of one name.
        """
        found = self.named(name)
        if len(found) > 1 and latitude is not None and longitude is not None:
            nearest = min(found, key=lambda place: place.km_from(latitude, longitude))
            if nearest.km_from(latitude, longitude) <= NAMESAKE_KM:
                return nearest.key
        if found:
            return found[0].key
        parts = [part for part in map(without_city, name.split(",")) if part]
        return readable(parts[0] if parts else " ".join(words_of(name))) or name.strip().casefold()

    def label(self, key: str) -> str:
        """The name to show of the locality with a key; each word of an unknown one begins with a capital."""
        return self._labels.get(key) or capwords(key)


@cache
def hyderabad() -> Gazetteer:
    """The gazetteer that ships with the platform."""
    with _LOCALITIES.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    entries = []
    names: set[str] = set()
    for row in rows:
        name, parent = row["name"], row["parent"] or None
        key = spelling(" ".join(words_of(name)))
        namesake = key in names
        names.add(key)
        locality = Locality(
            name=name,
            label=f"{name} ({parent})" if namesake else name,
            key=(f"{name} ({parent})" if namesake else name).lower(),
            latitude=float(row["latitude"]),
            longitude=float(row["longitude"]),
            parent=parent,
            size=int(row["size"]),
        )
        entries.append((locality, filter(None, row["aliases"].split("|"))))
    return Gazetteer(entries)


def locality_key(name: str, latitude: float | None = None, longitude: float | None = None) -> str:
    """The key of a locality in Hyderabad, however it is spelt. See Gazetteer.key."""
    return hyderabad().key(name, latitude, longitude)
