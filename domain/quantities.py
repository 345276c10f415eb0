"""Amounts and areas as Indians write them: `85 L`, `Rs 1,20,00,000`, `25k`, `200 sq.yd`, `60 to 80 lakhs`."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from enum import Enum, auto

from domain.tokens import Tokens

ABOUT = Decimal("0.1")
"""What is around an amount differs from it by a tenth at most."""

_NUMBER = r"\d+(?:\.\d+)?"
_AT_MOST = (
    "not more than|no more than|not above|not over|not exceeding|less than|lesser than|lower than|cheaper than"
    "|smaller than|under|below|within|up to|upto|at most|atmost|maximum|max|till|until|budget|< =|<"
)
_AT_LEAST = (
    "not less than|no less than|not below|not under|more than|greater than|higher than|larger than|bigger than|above"
    "|over|starting from|starting at|starting|starts from|starts at|from|minimum|min|at least|atleast|beyond|> =|>"
)
_ABOUT = "around|about|approximately|approx|nearly|roughly|close to|~"
_FILLER = "of|is|a|the|price|rent|budget|cost|area|size|for|in|only|range"
_OR_LESS = "or less|or below|or under|and below|and under|maximum|max|at most"
_OR_MORE = r"\+|plus|or more|or above|and more|and above|and up|upwards|onwards|onward|above|minimum|min"


class Meaning(Enum):
    """What is asked of the numbers."""

    EXACTLY = auto()
    AT_MOST = auto()
    AT_LEAST = auto()
    ABOUT = auto()
    BETWEEN = auto()


@dataclass(frozen=True)
class Quantity:
    """Numbers in a text, from `start` up to `end` of `Tokens.line`, in whole rupees or square feet."""

    meaning: Meaning
    low: int
    high: int
    start: int
    end: int
    has_unit: bool
    """Whether a unit or a currency is written."""

    @property
    def around(self) -> tuple[int, int]:
        """The bounds of what is about this quantity."""
        return max(1, round(self.low * (1 - ABOUT))), round(self.high * (1 + ABOUT))


class Measure:
    """Reads quantities of one kind: the units, and what may stand before and after."""

    def __init__(self, units: Mapping[str, Decimal], before: str, after: str) -> None:
        """`units` by patterns of their names."""
        self._units = [(re.compile(name), size) for name, size in units.items()]
        self.unit = unit = "|".join(units)
        """A pattern for the name of any unit, in a line of Tokens."""

        def number(n: int) -> str:
            # `1 crore 20 lakhs` is one amount.
            more = rf"(?: (?P<more{n}>{_NUMBER}) (?P<more_unit{n}>{unit})(?!\S))?"
            one = rf"(?P<before{n}>(?:{before}) )?(?P<number{n}>{_NUMBER})(?P<plus{n}> \+)?"
            return rf"{one}(?: (?P<unit{n}>{unit})(?!\S){more})?(?: (?:{after})(?!\S))*"

        self._single = re.compile(
            rf"(?<!\S)(?:(?:(?P<most>{_AT_MOST})|(?P<least>{_AT_LEAST})|(?P<about>{_ABOUT}))(?: (?:{_FILLER}))* )?"
            rf"{number(1)}(?!\S)(?: (?:(?P<or_less>{_OR_LESS})|(?P<or_more>{_OR_MORE}))(?!\S)(?! (?:{before} )?\d))?"
        )
        self._range = re.compile(
            rf"(?<!\S)(?:(?P<between>between|from)(?: (?:{_FILLER}))* )?{number(1)} (?P<to>-|to|and|till|upto) "
            rf"{number(2)}(?!\S)"
        )

    def quantities(self, line: str) -> Iterator[Quantity]:
        """The quantities in the line of some tokens, ranges first. Numbers without a unit are among them."""
        taken = line
        for found in self._range.finditer(line):
            bounds = self._bounds(found)
            if bounds and (found["between"] or found["to"] != "and"):
                taken = taken[: found.start()] + "\0" * (found.end() - found.start()) + taken[found.end() :]
                has_unit = bool(found["unit1"] or found["unit2"] or found["before1"] or found["before2"])
                yield Quantity(Meaning.BETWEEN, *bounds, *found.span(), has_unit)
        for found in self._single.finditer(taken):
            value = self._value(found, 1, found["unit1"])
            meaning = (
                Meaning.AT_MOST if found["most"] or found["or_less"]
                else Meaning.AT_LEAST if found["least"] or found["or_more"] or found["plus1"]
                else Meaning.ABOUT if found["about"]
                else Meaning.EXACTLY
            )  # fmt: skip
            yield Quantity(meaning, value, value, *found.span(), bool(found["unit1"] or found["before1"]))

    def read_range(self, text: str) -> tuple[int, int] | None:
        """The two quantities that are the whole of a text, such as `60 - 80 lakhs`; None if it is something else."""
        found = self._range.fullmatch(Tokens.of(text).line)
        return self._bounds(found) if found else None

    def _bounds(self, found: re.Match[str]) -> tuple[int, int] | None:
        """The ends of a range; the first one may have the unit of the second, or a smaller one: `80 - 1.2 cr`."""
        high = self._value(found, 2, found["unit2"] or found["unit1"])
        if found["unit1"] or not found["unit2"]:
            low = self._value(found, 1, found["unit1"])
            return (low, high) if low <= high else None
        size = self.size(found["unit2"])
        for smaller in sorted((other for _, other in self._units if other <= size), reverse=True):
            low = _whole(Decimal(found["number1"]) * smaller)
            if low <= high:
                return low, high
        return None

    def _value(self, found: re.Match[str], n: int, unit: str | None) -> int:
        value = Decimal(found[f"number{n}"]) * (self.size(unit) if unit else 1)
        if found[f"more{n}"]:
            value += Decimal(found[f"more{n}"]) * self.size(found[f"more_unit{n}"])
        return _whole(value)

    def size(self, unit: str) -> Decimal:
        """What one of a unit is, in rupees or square feet. Its name is one that `unit` matches."""
        return next(size for name, size in self._units if name.fullmatch(unit))


def _whole(value: Decimal) -> int:
    return int(value.to_integral_value(ROUND_HALF_EVEN))


MONEY = Measure(
    {
        "crores?|crs?|karod": Decimal(10_000_000),
        "millions?|mn": Decimal(1_000_000),
        "lakhs?|lacs?|laks?|lks?|l": Decimal(100_000),
        "thousands?|k": Decimal(1_000),
    },
    before="₹|rs|inr|rupees",
    after="/ -|rs|rupees|inr|only",
)
"""Whole rupees."""

AREA = Measure(
    {
        "sq ?(?:ft|feet|foot)s?|sqft|sft|sfts|square ?(?:feet|foot|ft)|sf": Decimal(1),
        "sq ?(?:yds?|yards?)|square ?yards?|yards?|yds?|gajam|gajalu|gaj|gaz|syds?": Decimal(9),
        "sq ?(?:mts?|mtrs?|meters?|metres?|m)|square ?(?:meters?|metres?)|sqm": Decimal("10.763910416709722"),
        "acres?|ekaram?": Decimal(43_560),
        "gunth?as?": Decimal(1_089),
        "cents?": Decimal("435.6"),
        "hectares?": Decimal("107639.10416709722"),
    },
    # Also the other way round, `sqft 1200`, but for a price `per sqft`.
    before=r"area|size|(?<!per )(?<!rate )(?:sq ?ft|sft|square ?feet)(?= \d{3})",
    after="area|plot area|built up area|super area|carpet area",
)
"""Square feet. Units as in the shared notes: a gaj is a square yard, and forty guntas are an acre."""
