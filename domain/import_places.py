"""The places of rows: what an address says of the locality, and whether a point can be there."""

from domain.gazetteer import hyderabad
from domain.import_cells import one_line
from domain.place_names import without_city, words_of
from domain.property import PropertyDetails

FAR_KM = 50.0
"""The farthest point in the real files is 41 km from its locality; Delhi is 1,230 km away."""


def split_address(text: str) -> tuple[list[str], list[str]]:
    """The parts of an address up to the locality, and those after it: the city, the state and the postal code."""
    parts = [part for part in map(one_line, text.split(",")) if part]
    kept = len(parts)
    while kept and not without_city(parts[kept - 1]):
        kept -= 1
    return parts[:kept], parts[kept:]


def is_in_hyderabad(city: str) -> bool:
    """Whether a city is the one of the gazetteer."""
    return words_of(city)[:1] in (["hyderabad"], ["secunderabad"])


def far_away(details: PropertyDetails) -> str | None:
    """What to do about a point that is nowhere near to the known locality of a listing; None if it may be there."""
    if details.latitude is None or details.longitude is None or not is_in_hyderabad(details.city):
        return None
    places = hyderabad().named(details.location)
    away = min((place.km_from(details.latitude, details.longitude) for place in places), default=0.0)
    if away <= FAR_KM:
        return None
    return f"The point is {away:,.0f} km from {places[0].name}. Correct the point or the location."
