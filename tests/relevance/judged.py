"""What the person who typed a query wants, and the grade of a listing by it."""

from collections.abc import Iterator
from dataclasses import dataclass

from tests.relevance.listings import LOCALITIES, Made

LAKH, CRORE, SQUARE_YARD = 100_000, 10_000_000, 9
_MISSED = 3
"""Of a listing that fails a condition: as much as the highest grade."""


@dataclass(frozen=True)
class Want:
    """Conditions on a listing; an empty one is none. Money in rupees, area in square feet."""

    location: str = ""
    types: tuple[str, ...] = ()
    listing: str = ""
    bedrooms: tuple[int, int] | None = None
    """From, to."""
    least: int = 0
    most: int = 0
    """Of the price."""
    area: int = 0
    """Wanted; a tenth more or less is as good."""
    furnished: str = ""
    facing: str = ""
    amenities: tuple[str, ...] = ()
    project: str = ""
    traits: tuple[str, ...] = ()


def grade(made: Made, want: Want) -> int:
    """3 for what was asked for, 2 and 1 for what comes near it, 0 for the rest."""
    return max(0, 3 - sum(_distances(made, want)))


def _distances(made: Made, want: Want) -> Iterator[int]:
    """How far a listing is from each condition: 0 meets it, 3 misses it."""
    facts = made.facts
    if want.types and facts["propertyType"] not in want.types:
        yield _MISSED
    if want.listing and facts["listingType"] != want.listing:
        yield _MISSED
    if want.location and facts["location"] != want.location:
        near = facts["location"] in LOCALITIES[want.location][3] or made.mentions == want.location
        yield 2 if near else _MISSED
    if want.bedrooms:
        rooms, (low, high) = facts.get("bedrooms"), want.bedrooms
        yield _MISSED if rooms is None else min(_MISSED, 2 * max(low - rooms, rooms - high, 0))
    if want.most and facts["price"] > want.most:
        yield 1 if facts["price"] <= 1.1 * want.most else _MISSED
    if facts["price"] < want.least:
        yield 1 if facts["price"] >= 0.9 * want.least else _MISSED
    if want.area:
        yield (
            0
            if abs(facts["areaSqft"] / want.area - 1) <= 0.1
            else 1
            if abs(facts["areaSqft"] / want.area - 1) <= 0.25
            else _MISSED
        )
    if want.furnished and facts.get("furnishedStatus") != want.furnished:
        yield 1 if "SEMI_FURNISHED" in (facts.get("furnishedStatus"), want.furnished) else _MISSED
    if want.facing and facts.get("facing") != want.facing:
        yield 2
    yield sum(amenity not in facts["amenities"] for amenity in want.amenities)
    if want.project and made.project != want.project:
        yield _MISSED
    missing = sum(trait not in made.traits for trait in want.traits)
    yield _MISSED * missing if want == Want(traits=want.traits) else 2 * missing
