"""How rooms, floors, ages, directions and sides of plots are written, as patterns on `Tokens.line`."""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from domain.property import Facing
from domain.quantities import Meaning, Quantity


class Found(NamedTuple):
    """A filter that words of a line mean, from `start` up to `end`."""

    start: int
    end: int
    values: dict[str, Any]
    """By field of SearchFilters."""


_COUNT = r"\d{1,2}(?:\.5)?"
_ROOM = r"(?:bhks?|bkh|bhkk|b h k|bed ?rooms?|beds?|br|rk)"
_MORE = r"\+|plus|or more|or above|and more|and above|above|minimum|min"
_BEDROOMS = re.compile(
    r"(?<!\S)(?:(?P<least>at least|atleast|minimum|min)|(?P<above>more than|above|over)|(?P<most>up to|upto|at most"
    rf"|maximum|max)) (?P<bound>{_COUNT}) {_ROOM}(?!\S)"
    rf"|(?<!\S)(?P<counts>{_COUNT}(?: (?:{_ROOM} )?(?:/|,|or|and|&|-|to) {_COUNT})*)"
    r"(?: \+ 1|(?P<more> (?:\+|plus|or more)))?"
    rf" {_ROOM}(?P<after> (?:{_MORE})(?!\S)(?! (?:₹ |rs )?\d))?(?!\S)"
)
_BEDROOMS_AFTER = re.compile(
    r"(?<!\d )(?<!\S)bhks? (?P<count>[1-9])(?!\S)"
    r"(?! (?:\+|-|/|to|crores?|crs?|lakhs?|lacs?|l|k|bath|toilet|car|st|nd|rd|th))"
)
"""`bhk 2`, the other way round."""
_SIDES = re.compile(r"(?<!\S)(?P<wide>\d{2,3}) (?:x|by) (?P<deep>\d{2,3})(?: (?:feet|ft|sq ?ft|sft))?(?!\S)")
_A_SIDE = range(15, 301)
"""Feet of a plot: `30x40`."""
_BATHROOMS = re.compile(
    r"(?<!\S)(\d{1,2})( \+)? (?:baths?|bath ?rooms?|toilets?|wash ?rooms?)( \+| or more| and above)?(?!\S)"
)
_ORDINALS = ("ground", "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
_FLOOR = re.compile(
    r"(?<!\S)(?:(?P<above>above|higher than)|(?P<below>below|under|lower than)|(?P<most>up to|upto))? ?"
    rf"(?:(?P<n>\d{{1,2}}) (?:st|nd|rd|th)|(?P<word>{'|'.join(_ORDINALS)})) floor(?!\S)"
    r"(?P<up> and above| or above| or higher| onwards)?(?P<down> and below| or below| or lower)?"
)
_AGE = re.compile(
    r"(?<!\S)(?P<most>less than|under|below|within|up to|upto|maximum|max|not more than|<)? ?"
    r"(?P<n>\d{1,2}) (?:years?|yrs?)(?P<old> old)?(?: or less| or newer)?(?!\S)"
)
_DIRECTION = r"(?:(?:north|south)(?: -)?(?: ?(?:east|west))?|east|west|ne|nw|se|sw)"
_DIRECTIONS = rf"{_DIRECTION}(?: (?:/|,|or|and|&) {_DIRECTION})*"
_FACING = re.compile(rf"(?<!\S)(?:({_DIRECTIONS}) (?:facing|face|faced)|facing (?:towards )?({_DIRECTIONS}))(?!\S)")
_FACINGS = {facing.value.lower().replace("_", ""): facing for facing in Facing} | {
    "ne": Facing.NORTH_EAST,
    "nw": Facing.NORTH_WEST,
    "se": Facing.SOUTH_EAST,
    "sw": Facing.SOUTH_WEST,
}
_KILOMETRES = r"(?:kms?|kilomet(?:er|re)s?)"
_DISTANCE = re.compile(
    rf"(?<!\S)(?:within|in|under|less than|about|around)(?: a)? ?\d+(?:\.\d+)? {_KILOMETRES}(?: radius)?"
    r"(?: of| from| to)?(?!\S)"
)
_MEASURED = re.compile(rf" (?:{_KILOMETRES}|m|met(?:er|re)s?|mins?|minutes|years?|yrs?|feet|ft|th|rd)(?!\S)")
_A_FEW = 20
"""More rooms than so many are no number of rooms in a home."""


def found_in(line: str) -> Iterator[Found]:
    """What the line says about rooms, floors, age, directions and sides."""
    yield from _bedrooms(line)
    for found in _BEDROOMS_AFTER.finditer(line):
        yield Found(*found.span(), {"bedrooms": (found["count"],)})
    for found in _SIDES.finditer(line):
        wide, deep = int(found["wide"]), int(found["deep"])
        if wide in _A_SIDE and deep in _A_SIDE:
            about = Quantity(Meaning.ABOUT, wide * deep, wide * deep, *found.span(), has_unit=True)
            low, high = about.around
            yield Found(*found.span(), {"min_area": low, "max_area": high})
    for found in _BATHROOMS.finditer(line):
        more = "+" if found[2] or found[3] else ""
        yield Found(*found.span(), {"bathrooms": (f"{int(found[1])}{more}",)})
    yield from _floors(line)
    for found in _AGE.finditer(line):
        if found["most"] or found["old"]:
            yield Found(*found.span(), {"max_age": int(found["n"])})
    for found in _FACING.finditer(line):
        names = re.split(" (?:/|,|or|and|&) ", found[1] or found[2])
        yield Found(*found.span(), {"facing": tuple(_FACINGS[re.sub("[ -]", "", name)] for name in names)})


def distances_in(line: str) -> Iterator[tuple[int, int]]:
    """Where the line says how near to a place: `within 5 km of`."""
    for found in _DISTANCE.finditer(line):
        yield found.span()


def is_measured(rest: str) -> bool:
    """Whether the rest of a line begins with a unit of length or time: then the number before it is no amount."""
    return _MEASURED.match(rest) is not None


def _bedrooms(line: str) -> Iterator[Found]:
    for found in _BEDROOMS.finditer(line):
        if found["bound"]:
            n = int(float(found["bound"]))
            least = n + 1 if found["above"] else n
            counts = tuple(map(str, range(1, min(n, _A_FEW) + 1))) if found["most"] else (f"{least}+",)
        else:
            numbers = [int(float(number)) for number in re.findall(_COUNT, found["counts"])]
            if re.search(" (?:-|to) ", found["counts"]):
                numbers = list(range(min(numbers), max(numbers) + 1))
            if found["more"] or found["after"]:
                counts = (*map(str, numbers[:-1]), f"{numbers[-1]}+")
            else:
                counts = tuple(map(str, dict.fromkeys(numbers)))
        if len(counts) <= _A_FEW:
            yield Found(*found.span(), {"bedrooms": counts})


def _floors(line: str) -> Iterator[Found]:
    for found in _FLOOR.finditer(line):
        n = int(found["n"]) if found["n"] else _ORDINALS.index(found["word"])
        if found["above"]:
            values = {"min_floor": n + 1}
        elif found["below"]:
            values = {"max_floor": n - 1}
        elif found["up"]:
            values = {"min_floor": n}
        elif found["down"] or found["most"]:
            values = {"max_floor": n}
        else:
            values = {"min_floor": n, "max_floor": n}
        start = found.start() + (len(found[0]) - len(found[0].lstrip()))
        yield Found(start, found.end(), values)
