"""Composes the title and the description of a listing that has none, from what it states."""

from collections.abc import Mapping
from typing import Any

from domain.amounts import square_feet
from domain.property import ListingType, PropertyType

HOMES = {PropertyType.APARTMENT, PropertyType.HOUSE, PropertyType.VILLA, PropertyType.FARMHOUSE, PropertyType.STUDIO}
_NOUNS = {type_: type_.value.lower() for type_ in PropertyType} | {
    PropertyType.APARTMENT: "flat",
    PropertyType.COMMERCIAL: "commercial property",
}
_PURPOSES: dict[str, str] = {ListingType.RENT: " for rent", ListingType.PG: " for paying guests"}


def headline(details: Mapping[str, Any]) -> str:
    """`3 BHK flat in Kondapur`, `200 sq ft plot in Kollur`, `2 BHK flat for rent in Miyapur`."""
    noun = _NOUNS[details["propertyType"]]
    if bedrooms := details.get("bedrooms"):
        noun = f"{bedrooms} BHK {noun}"
    elif details["propertyType"] not in HOMES and (area := details.get("areaSqft")):
        noun = f"{square_feet(area)} {noun}"
    purpose = _PURPOSES.get(details.get("listingType", ""), "")
    text = f"{noun}{purpose} in {details['location']}"
    return text[0].upper() + text[1:]


def facts(details: Mapping[str, Any]) -> str:
    """What a composed description says besides the headline."""
    said = []
    if area := details.get("areaSqft"):
        said.append(square_feet(area))
    if bathrooms := details.get("bathrooms"):
        said.append(f"{bathrooms} bathroom{'s' if bathrooms > 1 else ''}")
    if (floor := details.get("floorNumber")) is not None:
        said.append("basement" if floor < 0 else "ground floor" if floor == 0 else f"floor {floor}")
    if furnished := details.get("furnishedStatus"):
        said.append(furnished.lower().replace("_", "-"))
    if facing := details.get("facing"):
        said.append(f"{facing.lower().replace('_', '-')} facing")
    return f": {', '.join(said)}" if said else ""
