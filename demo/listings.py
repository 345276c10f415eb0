"""Sources of listings: a synthetic sample, or a CSV of sale listings in the format of portals."""

import csv
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

COLUMNS = {
    "price": "whole rupees",
    "Address": "at least three parts between commas, the locality third from the end; Hyderabad among them",
    "area": "square feet",
    "latitude": "degrees north, or empty",
    "longitude": "degrees east, or empty",
    "Bedrooms": "how many, or empty",
    "Bathrooms": "how many, or empty",
    "type_of_building": "Flat or Individual House",
    "desc": "the description",
}
"""The columns that a CSV must have, and what is in them."""
OPTIONAL_COLUMNS = {
    "parking": "parking spaces",
    "Furnished_status": "Furnished, Semi-Furnished or Unfurnished",
}
_TYPES = {"Flat": "APARTMENT", "Individual House": "HOUSE"}
_FURNISHED = {"Furnished": "FURNISHED", "Semi-Furnished": "SEMI_FURNISHED", "Unfurnished": "UNFURNISHED"}
_MAX_PARKING = 10
"""A larger value is a flat number in the wrong column."""

LOCALITIES = (
    ("Gachibowli", 17.4401, 78.3489), ("Kondapur", 17.4622, 78.3568), ("Madhapur", 17.4483, 78.3915),
    ("Banjara Hills", 17.4126, 78.4392), ("Miyapur", 17.4969, 78.3548), ("Uppal", 17.4018, 78.5602),
    ("Kukatpally", 17.4948, 78.3996), ("Begumpet", 17.4440, 78.4630), ("Manikonda", 17.4050, 78.3774),
    ("LB Nagar", 17.3457, 78.5522),
)  # fmt: skip
_KINDS = (("APARTMENT", 900, 2400, 6500), ("VILLA", 2200, 5200, 8500), ("HOUSE", 1100, 3600, 6000))
_AMENITIES = ("Lift", "Power backup", "Gymnasium", "Swimming pool", "Children's play area", "Gated community")


class Unusable(ValueError):
    """A row that cannot become a listing; the message is the reason, without text of the row, for counting."""


def synthetic(count: int, seed: int = 1591) -> Iterator[dict[str, Any]]:
    """`count` invented listings, the same ones for the same seed. Prices in rupees, areas in square feet."""
    chance = random.Random(seed)
    for _ in range(count):
        locality, latitude, longitude = chance.choice(LOCALITIES)
        kind, smallest, largest, rate = chance.choice(_KINDS)
        bedrooms = chance.randint(2, 5)
        area = chance.randrange(smallest, largest, 25)
        floors = chance.randint(3, 20)
        yield {
            "title": f"{bedrooms} BHK {kind.title()} in {locality}",
            "description": f"A {kind.lower()} of {area} square feet with {bedrooms} bedrooms in {locality}, Hyderabad.",
            "price": round(area * rate * chance.uniform(0.8, 1.3), -4).__trunc__(),
            "location": locality,
            "propertyType": kind,
            "listingType": "SALE",
            "bedrooms": bedrooms,
            "bathrooms": max(1, bedrooms - chance.randint(0, 1)),
            "areaSqft": area,
            "totalFloors": floors,
            "floorNumber": chance.randint(0, floors),
            "amenities": sorted(chance.sample(_AMENITIES, 3)),
            "latitude": round(latitude + chance.uniform(-0.01, 0.01), 6),
            "longitude": round(longitude + chance.uniform(-0.01, 0.01), 6),
        }


def described_columns() -> str:
    """A line for each column of a CSV."""
    optional = {name: f"{what} (may be left out)" for name, what in OPTIONAL_COLUMNS.items()}
    return "\n".join(f"  {name:<17} {what}" for name, what in (COLUMNS | optional).items())


def rows_of(file: Path) -> list[dict[str, str]]:
    """The rows of a CSV. Raises ValueError when it is not of the shape that `listing_of` reads."""
    with file.open(newline="", encoding="utf-8-sig") as source:
        reader = csv.DictReader(source)
        missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            raise ValueError(
                f"{file.name} lacks the columns {', '.join(missing)}. A CSV needs, in any order:\n{described_columns()}"
            )
        return list(reader)


def listing_of(row: dict[str, str]) -> dict[str, Any]:
    """One row as a listing. Raises Unusable."""
    parts = [part.strip() for part in row["Address"].split(",") if part.strip()]
    if "hyderabad" not in row["Address"].lower():
        raise Unusable("not in Hyderabad")
    if len(parts) < 3:
        raise Unusable("no locality in the address")
    locality = parts[-3]
    kind = _TYPES.get(row["type_of_building"].strip())
    if kind is None:
        raise Unusable("unknown type of building")
    bedrooms, parking = _whole(row["Bedrooms"]), _whole(row.get("parking", ""))
    description = " ".join(row["desc"].split())
    noun = "Flat" if kind == "APARTMENT" else "House"
    title = f"{bedrooms} BHK {noun} in {locality}" if bedrooms else f"{noun} in {locality}"
    found: dict[str, Any] = {
        "title": title[:200],
        "description": description[:5000] if len(description) >= 10 else f"{title}, as listed by its owner.",
        "price": _whole(row["price"]),
        "location": locality,
        "address": ", ".join(parts[:-2])[:500],
        "propertyType": kind,
        "listingType": "SALE",
        "bedrooms": bedrooms,
        "bathrooms": _whole(row["Bathrooms"]) or None,
        "areaSqft": _whole(row["area"]),
        "parkingSpaces": parking if parking is not None and parking <= _MAX_PARKING else None,
        "furnishedStatus": _FURNISHED.get(row.get("Furnished_status", "").strip()),
        "latitude": _number(row["latitude"]),
        "longitude": _number(row["longitude"]),
    }
    return {name: value for name, value in found.items() if value is not None}


def _number(text: str) -> float | None:
    try:
        return float(text) if text.strip() else None
    except ValueError:
        raise Unusable("not a number") from None


def _whole(text: str) -> int | None:
    """A whole number; these files write 2 as `2.0`."""
    value = _number(text)
    return None if value is None else round(value)
