"""Prices, areas, rooms and floors as the cells of spreadsheets have them, read strictly.

A cell has one meaning, states nothing (`Price on request`), or is refused with the readings it could have: what is
imported is public, and a silent guess is worse than a question. `quantities.py` reads the same units in searches, where
the best guess is wanted. `amounts.py` writes what is read here.
"""

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal

from domain.amounts import rupees, short_rupees, square_feet
from domain.quantities import AREA, MONEY, Measure
from domain.tokens import Tokens


class Unclear(ValueError):
    """A text without a certain meaning: why, and what it could mean."""

    def __init__(self, reason: str, readings: tuple[str, ...] = ()) -> None:
        super().__init__(f"{reason} It could be {' or '.join(readings)}." if readings else reason)
        self.reason = reason
        self.readings = readings


_NOT_STATED = (
    "|na|n a|nil|null|none|nan|undefined|unknown|not available|not stated|not specified|not applicable|not disclosed"
    "|on request|price on request|rent on request|price on call|call for price|contact for price|ask for price|por"
    "|tba|tbd|to be announced"
)
"""Signs are spaces in these."""
_NOTHING = frozenset(_NOT_STATED.split("|"))
_SIGNS = re.compile(r"[\s./#_?*()-]+")


def is_stated(text: str) -> bool:
    """Whether a cell says anything: `N/A`, `NULL`, `-` and `Price on request` do not."""
    return len(text) > 20 or _SIGNS.sub(" ", text).strip().lower() not in _NOTHING


def plain(text: str) -> str:
    """The text in lower case with ASCII digits, single spaces and plain hyphens: `85\u00a0L` is `85 l`."""
    if not text.isascii():
        text = re.sub("(m|ft|yd|yard)s?\u00b2", r"sq \1", text)
        text = unicodedata.normalize("NFKC", text)
        text = "".join(str(unicodedata.decimal(c)) if c.isdecimal() else c for c in text)
        text = re.sub("[\u2010-\u2015\u2212]", "-", text)
    return " ".join(text.lower().split())


# The groupings of India and of the West.
_GROUPED = re.compile(r"(?:\d{1,2}(?:,\d{2})*|\d{1,3}(?:,\d{3})*),\d{3}(?:\.\d+)?")
_PLAIN = re.compile(r"\d+(?:\.\d+)?")
_DOTS = re.compile(r"[1-9]\d{0,2}(?:\.\d{3}){2,}|[1-9]\d?(?:\.\d{2})+\.\d{3}")
_EXPONENT = re.compile(r"\d+(?:\.\d+)?e[+-]?\d{1,2}")
_MOST_DIGITS = 24
"""More digits are no price and no area: the largest has thirteen."""


def _number(text: str, name: Callable[[Decimal], str], dots_group: bool = False) -> Decimal:
    """The number that a text is. `name` writes one with its unit; `dots_group`: 1.200 may be 1,200. Raises Unclear."""
    if len(text) > _MOST_DIGITS:
        raise Unclear("The number is too long.")
    if _PLAIN.fullmatch(text):
        if dots_group and re.fullmatch(r"[1-9]\d{0,2}\.\d{3}", text):
            readings = name(Decimal(text.replace(".", ""))), name(Decimal(text))
            raise Unclear("A dot before three digits may group them or begin a fraction.", readings)
        return Decimal(text)
    if _GROUPED.fullmatch(text):
        return Decimal(text.replace(",", ""))
    if _DOTS.fullmatch(text):
        raise Unclear("Group digits by commas, not by dots.", (name(Decimal(text.replace(".", ""))),))
    if _EXPONENT.fullmatch(text):
        reason = "The spreadsheet has shortened the number. Format the column as numbers without an exponent."
        raise Unclear(reason, (name(Decimal(text)),))
    if re.fullmatch(r"\d[\d ]*", text):
        raise Unclear("A space is inside of the number.", (name(Decimal(text.replace(" ", ""))),))
    if re.fullmatch(r"\d+,\d+", text):
        readings = name(Decimal(text.replace(",", "."))), name(Decimal(text.replace(",", "")))
        raise Unclear("The comma groups digits neither as in India nor by three.", readings)
    if re.fullmatch(r"[\d,]+(?:\.\d+)?", text) and (digits := text.replace(",", "")).strip("."):
        reason = "The commas group digits neither as in India nor by three."
        raise Unclear(reason, (name(Decimal(digits)),))
    raise Unclear("This is not a number.")


def _whole(value: Decimal) -> int | None:
    """A whole number that spreadsheets wrote as a fraction, such as 11399999.999999998; None for another fraction."""
    near = value.to_integral_value(ROUND_HALF_EVEN)
    return int(near) if abs(value - near) < Decimal("0.001") else None


def _line(text: str) -> str:
    """The plain text without dots and hyphens in units: `sq.yd.` is `sq yd`."""
    if len(text) > _LONGEST:
        raise Unclear("The text is too long for one number.")
    return " ".join(_IN_UNITS.sub(" ", plain(text)).split())


def _readings(measure: Measure, text: str, write: Callable[[int], str]) -> tuple[str, ...]:
    """The amounts that a search would find in the text."""
    bounds = measure.read_range(text)
    if bounds is None:
        found = [quantity for quantity in measure.quantities(Tokens.of(text[:200]).line) if quantity.has_unit]
        return tuple(dict.fromkeys(write(bound) for each in found for bound in (each.low, each.high)))[:4]
    return tuple(map(write, bounds))


_LONGEST = 100
"""Characters of a cell with a number, its unit and a remark."""
_IN_UNITS = re.compile(r"(?<=[a-z])\.|(?<=[a-z])-(?=[a-z])")
_FIGURE = r"\d[\d.,]*(?:e[+-]?\d+)?|\d[\d ,]*\d"
_PRICE = re.compile(
    rf"(?P<sign>₹|rs|inr|rupees)? ?(?P<number>{_FIGURE}) ?(?P<unit>(?:{MONEY.unit})(?![a-z]))?"
    rf"(?:,? ?(?:and |& )?(?P<more>\d+(?:\.\d+)?) ?(?P<more_unit>(?:{MONEY.unit})(?![a-z])))?"
    r"(?P<exact> ?(?:/ ?-|rs|inr|rupees))?(?: ?only)?"
    r"(?P<month> ?(?:/ ?month|/ ?mo|per month|a month|monthly|p ?m|pcm))?"
    r"(?: ?[(]?(?:slightly )?(?:negotiable|nego|fixed|all inclusive)[)]?)?"
)
_RATE = re.compile(rf"(?P<price>.+?)(?: ?/ ?-)? ?(?:/|per) ?(?P<unit>{AREA.unit})")
_AREA = re.compile(
    rf"(?P<number>{_FIGURE}) ?(?P<unit>(?:{AREA.unit})(?![a-z]))?"
    rf"(?:,? ?(?:and |& )?(?P<more>\d+(?:\.\d+)?) ?(?P<more_unit>(?:{AREA.unit})(?![a-z])))?"
    r"(?: ?[(]?(?:super|carpet|plot|built ?up|super built ?up)?(?: area)?[)]?)?"
)
_UNIT_FIRST = re.compile(rf"(?P<unit>{AREA.unit}) (?P<number>{_FIGURE})")

LEAST_SALE = 1_00_000
"""Rupees. A smaller number without a unit is no certain price of a sale: 85 may be 85 lakhs."""
LEAST_RENT = 1_000
"""Rupees. A smaller number without a unit is no certain rent of a month: 25 may be 25 thousand."""


def read_price(text: str, *, sale: bool = True, unit: str | None = None, area_sqft: int | None = None) -> int | None:
    """Whole rupees: `85 L`, `1.2 Cr`, `Rs 1,20,00,000`; None where no price is stated. Raises Unclear.

    It is the price of a `sale`, or the rent of a month. `unit` is that of a number without one, such as `lakhs` in the
    header of the column. A rate such as `5.20 K/sq.ft` is the price of `area_sqft`.
    """
    if not is_stated(text):
        return None
    line = _line(text)
    if rate := _RATE.fullmatch(line):
        return _price_by_rate(rate["price"], rate["unit"], area_sqft)
    found = _PRICE.fullmatch(line)
    if found is None:
        raise Unclear("This is not one certain price.", _readings(MONEY, text, short_rupees))
    if sale and found["month"]:
        raise Unclear("This is a rent of a month, and the listing is for sale.")
    if found["unit"] is None and found["more"] is None:
        return _price_without_unit(found, sale, unit)
    value = _compound(MONEY, found, _money)
    return _rupees(value)


def is_rate(text: str) -> bool:
    """Whether a cell has the price of a square foot, or of another unit of area."""
    return len(text) <= _LONGEST and not text.isdecimal() and _RATE.fullmatch(_line(text)) is not None


def _price_by_rate(price: str, unit: str, area_sqft: int | None) -> int:
    if area_sqft is None:
        raise Unclear(f"This is the price of one {unit}. Give the whole price, or the area beside it.")
    found = _PRICE.fullmatch(price)
    if found is None or found["month"]:
        raise Unclear("This is not one certain price.", _readings(MONEY, price, short_rupees))
    rate = _compound(MONEY, found, _money)
    return int((rate * area_sqft / _size(AREA, unit)).to_integral_value(ROUND_HALF_EVEN))


def _price_without_unit(found: re.Match[str], sale: bool, unit: str | None) -> int:
    size = MONEY.size(unit) if unit else None
    value = _number(found["number"], lambda value: _money(value * (size or 1)), dots_group=size is None)
    if found["exact"]:
        return _rupees(value)
    if size is not None:
        if value >= LEAST_SALE:
            reason = f"The header says {unit}, and the number is as large as whole rupees."
            raise Unclear(reason, (_money(value), _money(value * size)))
        return _rupees(value * size)
    if 0 < value < (LEAST_SALE if sale else LEAST_RENT) and not (found["sign"] and value >= LEAST_RENT):
        units = [1, 1_000] if value >= LEAST_RENT or not sale else [1, 1_00_000]
        if value < (100 if sale else 10):
            units.append(1_00_00_000 if sale else 1_00_000)
        raise Unclear("The number has no unit.", tuple(_money(value * each) for each in units))
    return _rupees(value)


def read_area(text: str, *, unit: str | None = None, plot: bool = False) -> int | None:
    """Square feet, rounded: `200 sq.yd`, `2 acres`, `5 guntas`; None where no area is stated. Raises Unclear.

    `unit` is that of a number without one. Where neither is there it is square feet, but not of a `plot`: plots are
    sold by the square yard as often.
    """
    if not is_stated(text):
        return None
    line = _line(text)
    found = _AREA.fullmatch(line)
    if found is None and (turned := _UNIT_FIRST.fullmatch(line)):
        found = _AREA.fullmatch(f"{turned['number']} {turned['unit']}")
    if found is None:
        raise Unclear("This is not one certain area.", _readings(AREA, text, square_feet))
    if found["unit"] is None and found["more"] is None:
        if unit is None and plot:
            value = _number(found["number"], _area)
            raise Unclear("The area of a plot needs its unit.", (_area(value), f"{_written(value)} sq yd"))
        size = _size(AREA, unit or "sqft")
        value = _number(found["number"], lambda value: f"{_written(value)} {unit or 'sq ft'}", dots_group=True) * size
    else:
        value = _compound(AREA, found, _area)
    return int(value.to_integral_value(ROUND_HALF_EVEN))


def _compound(measure: Measure, found: re.Match[str], name: Callable[[Decimal], str]) -> Decimal:
    """The value of a number with a unit, or of two, such as `1 crore 20 lakhs`. Raises Unclear."""
    size = _size(measure, found["unit"])
    # No one writes thousands of crores or acres with a dot.
    value = _number(found["number"], lambda value: name(value * size), dots_group=size < 1_000) * size
    if found["more"]:
        more = Decimal(found["more"]) * _size(measure, found["more_unit"])
        if found["unit"] is None or more >= size:
            raise Unclear("These are two amounts.", (name(value), name(more)))
        value += more
    return value


def _size(measure: Measure, unit: str | None) -> Decimal:
    return measure.size(unit) if unit else Decimal(1)


def _rupees(value: Decimal) -> int:
    if (whole := _whole(value)) is not None:
        return whole
    below = int(value)
    raise Unclear("Give whole rupees.", (rupees(below), rupees(below + 1)))


def _money(value: Decimal) -> str:
    whole = _whole(value)
    return f"₹{value.normalize():f}" if whole is None else short_rupees(whole)


def _area(value: Decimal) -> str:
    return square_feet(int(value.to_integral_value(ROUND_HALF_EVEN)))


def _written(value: Decimal) -> str:
    return f"{value.normalize():f}"


_WORDS = {"one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "single": "1", "double": "2"}
_ROOMS = re.compile(
    r"(?P<number>\d+(?:\.\d+)?) ?(?P<unit>bhk|b h k|bed ?rooms?|beds?|br|rk|r k)?(?![a-z])"
    r"(?P<extras>(?: ?(?:\+|,|and|with|&) ?(?:study|servants?|maids?|pooja|puja|store)(?: room)?)*)(?P<rest> [a-z ,]+)?"
)
_EXTRAS = {
    "study": "Study",
    "servant": "Servant room",
    "maid": "Servant room",
    "poo": "Pooja room",
    "puja": "Pooja room",
}
_EXTRAS |= {"store": "Store room"}
_COUNT = re.compile(
    r"(?:no of )?(?P<number>\d+(?:\.0*)?)(?: ?(?:bath ?rooms?|baths?|toilets?|covered|open|cars?|parkings?"
    r"|parking spaces?|years?|yrs?|years? old|floors?|storeys?|balcon(?:y|ies)))*"
)
_FLOORS = {"ground": 0, "g": 0, "gf": 0, "basement": -1, "upper basement": -1, "lower basement": -2}
_FLOOR = re.compile(
    r"(?P<floor>-?\d+(?:\.0+)?(?:st|nd|rd|th)?|gf?|ground|(?:upper |lower )?basement)(?: floor)?"
    r"(?: ?(?:out of|of|/) ?(?P<total>\d+)(?: floors?)?)?"
)


@dataclass(frozen=True)
class Rooms:
    """`3BHK+study`: three bedrooms and a study."""

    bedrooms: int
    """0 in a studio, and in a flat of one room and a kitchen (`1 RK`)."""
    extras: tuple[str, ...] = ()
    rest: str = ""
    """The words after it, such as `flat`."""


def read_rooms(text: str) -> Rooms | None:
    """The bedrooms of a home and what is added to them; None where nothing is stated. Raises Unclear."""
    if not is_stated(text):
        return None
    line = _line(text)
    first, _, others = line.partition(" ")
    line = f"{_WORDS.get(first, first)} {others}".strip()
    if first == "studio":
        return Rooms(0, (), line)
    found = _ROOMS.fullmatch(line)
    if found is None:
        numbers = re.findall(r"(?<![\d.])\d{1,2}(?:\.\d)?(?![\d.]| ?bath)", line)[:6]
        if plus := re.match(r"(\d) ?\+ ?(\d)(?! ?bath)", line):
            numbers = [plus[1], str(int(plus[1]) + int(plus[2]))]
        raise Unclear("This is not one certain number of bedrooms.", tuple(f"{n} BHK" for n in dict.fromkeys(numbers)))
    number = Decimal(found["number"])
    if number != int(number):
        raise Unclear("Bedrooms are whole.", (f"{int(number)} BHK + study", f"{int(number) + 1} BHK"))
    bedrooms = 0 if found["unit"] in ("rk", "r k") else int(number)
    extras = (label for start, label in _EXTRAS.items() if start in found["extras"])
    return Rooms(bedrooms, tuple(dict.fromkeys(extras)), (found["rest"] or "").strip(" ,"))


def read_floor(text: str) -> tuple[int | None, int | None]:
    """The floor and the highest one of the building: `3 out of 4`, `Ground out of 4`. Raises Unclear.

    Either is None where it is not stated. The ground floor is 0, a basement is below it.
    """
    if not is_stated(text):
        return None, None
    line = _line(text)
    if stacked := re.fullmatch(r"g(?:round)? ?\+ ?(\d+)", line):
        above = int(stacked[1])
        raise Unclear("These are the floors of the building.", (f"floor {above}", f"ground out of {above}"))
    found = _FLOOR.fullmatch(line)
    if found is None:
        raise Unclear("This is not one certain floor. Give a number, Ground or Basement.", _numbers(line))
    total = int(found["total"]) if found["total"] else None
    floor = found["floor"]
    return _FLOORS[floor] if floor in _FLOORS else int(float(floor.rstrip("stndrh"))), total


def read_count(text: str) -> int | None:
    """A number of things or years: `2`, `2.0`, `2 covered`, `5 years`; None where none is stated. Raises Unclear."""
    if not is_stated(text):
        return None
    line = _line(text)
    if found := _COUNT.fullmatch(line):
        return int(found["number"].partition(".")[0])
    raise Unclear("This is not one whole number.", _numbers(line))


def _numbers(line: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(re.findall(r"(?<![\d.])\d+(?![\d.])", line)))[:4]
