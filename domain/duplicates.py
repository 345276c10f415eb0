"""Which listings of one owner are the same flat, house or plot."""

from hashlib import blake2b

from domain.gazetteer import locality_key
from domain.place_names import spelling, without_city
from domain.property import PropertyDetails, PropertyType

_ROOMLESS = frozenset(
    {PropertyType.PLOT, PropertyType.COMMERCIAL, PropertyType.OFFICE, PropertyType.SHOP, PropertyType.WAREHOUSE}
)


def place_key(details: PropertyDetails) -> str | None:
    """What two listings of the same place and unit share; None where a listing says too little to tell.

    With an address, it is the locality and the address in any spelling, the floor, the rooms, the area, and the types:
    the same flat for another price is the same flat. The area counts, because an address is often only a building. What
    only one of two listings states makes them differ.

    Without an address, listings of a locality with the same rooms and area are often different flats of one builder.
    So the price and the point, to some ten metres, must be the same, too, and area and rooms must be stated.
    """
    address = _beyond(details)
    if not address and (
        details.area_sqft is None or (details.bedrooms is None and details.property_type not in _ROOMLESS)
    ):
        return None
    parts: list[object] = [
        locality_key(details.location, details.latitude, details.longitude),
        details.city.casefold(),
        details.property_type,
        details.listing_type,
        details.bedrooms,
        details.area_sqft,
        details.floor_number,
    ]
    if address:
        parts.append(address)
    else:
        point = details.latitude and details.longitude and f"{details.latitude:.4f} {details.longitude:.4f}"
        parts += [details.price, point]
    return blake2b("|".join(map(str, parts)).encode(), digest_size=16).hexdigest()


def _beyond(details: PropertyDetails) -> str:
    """What an address says besides the locality and the city, in lower case without spaces; empty if it is nothing."""
    location = spelling(without_city(details.location))
    parts = [without_city(part) for part in (details.address or "").split(",")]
    return "".join(part for part in parts if part and spelling(part) != location).replace(" ", "")
