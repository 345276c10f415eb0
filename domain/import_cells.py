"""Reads the cells of one column each: the fields of a listing whose meaning does not depend on other cells."""

import math
import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from domain.amenities import LABELS, amenity_key
from domain.figures import Unclear, is_stated, plain, read_count
from domain.place_names import words_of
from domain.property import Facing, PropertyType
from domain.reading_words import PHRASES
from domain.tokens import Tokens

_MORE_TYPES = {
    ("penthouse",): PropertyType.APARTMENT,
    ("builder", "floor"): PropertyType.APARTMENT,
    ("industrial", "shed"): PropertyType.WAREHOUSE,
}
_LONGEST_PHRASE = max(map(len, PHRASES))
_FACING = {name.lower().replace("_", ""): Facing[name] for name in Facing.__members__}
_FACING |= {"".join(part[0] for part in name.lower().split("_")): Facing[name] for name in Facing.__members__}
_YES = frozenset({"1", "yes", "y", "true", "t", "available", "\u2713", "\u2714"})
_NO = frozenset({"0", "no", "n", "false", "f", "not available", "none"})


def text_of(value: Any) -> str:
    """A cell of CSV or JSON as text, without whitespace around it. Raises Unclear for lists, objects and booleans."""
    match value:
        case str():
            return value.strip()
        case None:
            return ""
        case bool() | list() | dict():
            raise Unclear("Give a text or a number.")
        case float() if value.is_integer() and math.isfinite(value):
            return str(int(value))
    return str(value)


def shortened(value: Any, characters: int = 100) -> str:
    """The beginning of a cell on one line, to show which one is meant; what cannot be stored is left out."""
    text = value if isinstance(value, str) else "" if value is None else str(value)
    storable = (c for c in text[: characters * 4] if c.isspace() or unicodedata.category(c) not in ("Cc", "Cs"))
    text = " ".join("".join(storable).split())
    return text if len(text) <= characters else text[: characters - 1] + "…"


def one_line(text: str) -> str:
    return " ".join(text.split())


def paragraphs(text: str) -> str:
    """The lines of a text without empty ones and the whitespace around them."""
    return "\n".join(line for line in (" ".join(line.split(" ")).strip() for line in text.splitlines()) if line)


def choice(field: str, text: str) -> str:
    """The value of an enumeration that the words of a text mean, by the words of searches. Raises Unclear."""
    words = [word for word in Tokens.of(text[:200]).words if word not in ("/", ",")]
    values: dict[str, None] = {}
    at = 0
    while at < len(words):
        for end in range(min(len(words), at + _LONGEST_PHRASE), at, -1):
            phrase = tuple(words[at:end])
            meant, found = PHRASES.get(phrase, ("", ()))
            if field == "property_type" and phrase in _MORE_TYPES:
                meant, found = field, (_MORE_TYPES[phrase],)
            if meant == field:
                values |= dict.fromkeys(found)
                at = end
                break
        else:
            at += 1
    if len(values) == 1:
        return next(iter(values))
    if values:
        raise Unclear("Give one of them.", tuple(values))
    raise Unclear(f"Give one of {', '.join(_CHOICES[field])}.")


_CHOICES = {
    field: list(dict.fromkeys(value for known, values in PHRASES.values() if known == field for value in values))
    for field in ("property_type", "listing_type", "furnished_status")
}


def facing(text: str) -> str:
    line = re.sub(r"\b(?:facing|face|direction|side)\b", "", plain(text[:60]).replace("_", " "))
    if found := _FACING.get(re.sub(r"[\s.-]", "", line)):
        return found
    raise Unclear(f"Give one of {', '.join(Facing)}.")


def coordinate(text: str) -> float:
    """Degrees, as a decimal number."""
    if len(text) <= 40 and re.fullmatch(r"-?\d{1,3}(?:\.\d+)?", line := plain(text)):
        return float(line)
    raise Unclear("Give degrees as a decimal number, such as 17.4401.")


def digits(text: str) -> str:
    """A number that is a name, such as a postal code: `500032.0` of a spreadsheet is 500032, `500 032` too."""
    return re.sub(r"\s", "", re.sub(r"\.0+$", "", text))


def phone(text: str) -> str:
    """A phone number; spreadsheets lose the + before the country."""
    number = re.sub(r"\.0+$", "", text)
    return f"+{number}" if re.fullmatch(r"91[6-9]\d{9}", number) else number


def rera_id(text: str) -> str:
    return re.sub(r"\s", "", text).upper()


def age(text: str) -> int | None:
    return 0 if plain(text[:60]) in ("new", "new construction", "under construction") else read_count(text)


CELLS: dict[str, Callable[[str], Any]] = {
    "title": one_line,
    "city": one_line,
    "state": one_line,
    "pincode": digits,
    "propertyType": lambda text: choice("property_type", text),
    "listingType": lambda text: choice("listing_type", text),
    "furnishedStatus": lambda text: choice("furnished_status", text),
    "facing": facing,
    "bathrooms": read_count,
    "parkingSpaces": read_count,
    "ageOfProperty": age,
    "nearbyFacilities": paragraphs,
    "contactName": one_line,
    "contactPhone": phone,
    "contactEmail": one_line,
    "latitude": coordinate,
    "longitude": coordinate,
    "reraId": rera_id,
    "externalId": one_line,
}
"""How a cell of a field is read that states something. The function raises Unclear."""


def amenities(cells: list[tuple[str, Any]]) -> tuple[str, ...]:
    """The amenities of columns with their values: lists, or flags whose column is the amenity. Raises Unclear."""
    found: dict[str, str] = {}
    for column, value in cells:
        for label in _labels(column, value):
            if key := amenity_key(label):
                found.setdefault(key, label)
    return tuple(found.values())


def _labels(column: str, value: Any) -> list[str]:
    if isinstance(value, list):
        return [one_line(text_of(entry)) for entry in value if entry is not None]
    flag = amenity_of(column)
    if flag is None or (isinstance(value, str) and re.search("[,;|\n]", value)):
        return [label for part in re.split("[,;|\n\u2022]", text_of(value)) if is_stated(label := one_line(part))]
    text = ("1" if value else "0") if isinstance(value, bool) else text_of(value).lower().removesuffix(".0")
    if text in _YES:
        return [flag]
    if text in _NO or text == "9" or not is_stated(text):
        return []
    if text.isascii() and text.isdecimal():
        return [flag]  # how many lifts there are
    raise Unclear("Give 1 or 0, or yes or no.")


_FURTHER = {
    phrase: phrase[0].upper() + phrase[1:]
    for phrase in (
        *("maintenance staff", "shopping mall", "school", "hospital", "bed", "golf course", "dining table", "sofa"),
        *("wardrobe", "microwave"),
    )
} | {"atm": "ATM", "tv": "TV"}
"""Flags of portals that nobody searches for as amenities."""


_HUMPS = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=\d)(?=[A-Z][a-z])")


def header_words(column: str) -> list[str]:
    """The words of a header in lower case: `SwimmingPool` and `24X7Security` have two."""
    return words_of(_HUMPS.sub(" ", column))


@lru_cache(maxsize=2_000)
def amenity_of(column: str, certain: bool = False) -> str | None:
    """The amenity that a column is a flag of: `SwimmingPool`, `Lift (Y/N)`; None for other columns.

    `certain` leaves out what may be anything when no other flags are there, such as `Bed`.
    """
    for words in (header_words(column), words_of(column)):
        phrase = " ".join(word for word in words if word not in ("y", "n", "has", "is"))
        if label := LABELS.get(phrase) or (not certain and _FURTHER.get(phrase)):
            return label
    return None
