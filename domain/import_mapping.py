"""Which column of a spreadsheet is which field of a listing: guessed from its headers, or given and checked."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field, JsonValue, ValidationError

from domain.figures import Unclear
from domain.import_cells import CELLS, amenities, amenity_of, header_words, text_of
from domain.model import Model
from domain.place_names import words_of
from domain.property import PropertyDetails, PropertyPatch
from domain.quantities import AREA, MONEY
from domain.reasons import reason

FIELDS = tuple(field.alias or name for name, field in PropertyDetails.model_fields.items())
"""The fields of a listing, as the API names them."""

PRICE_UNITS = {
    "price": None,
    "rent": None,
    "priceThousands": "thousands",
    "priceLakhs": "lakhs",
    "priceCrores": "crores",
}
"""Fields of a column with the price, by the unit of numbers that have none. `rent` is that of a month."""
AREA_UNITS = {
    "area": None,
    "areaSqft": "sq ft",
    "areaSqyd": "sq yd",
    "areaSqm": "sq m",
    "areaAcres": "acres",
    "areaGuntas": "guntas",
    "areaCents": "cents",
}
"""Fields of a column with the area, by the unit of numbers that have none. An `area` has the unit that is written."""
RATES = {"pricePerSqft": "sq ft", "pricePerSqyd": "sq yd"}
"""Fields of a column with the price of a unit of area, from which the price is calculated where there is none."""
TARGETS = (*dict.fromkeys((*FIELDS, *PRICE_UNITS, *AREA_UNITS, *RATES, "configuration", "externalId")),)
"""All that a column can be. A `configuration` such as `3 BHK Flat` has the bedrooms and the type of a property.

The `externalId` is how the sender names the row; the same one in another file is the same listing.
"""
_SLOTS = dict.fromkeys(PRICE_UNITS, "price") | dict.fromkeys(AREA_UNITS, "areaSqft") | dict.fromkeys(RATES, "rate")

_HEADERS = {
    "externalId": "external id|listing id|property id|reference|reference no|reference number|ref|ref no|ref id|id|code"
    "|property code|listing code|unique id|source id|ad id|project id",
    "title": "title|property title|heading|headline|property name|project name|flat name|society|society name|project"
    "|building name",
    "description": "description|desc|property description|details|about|overview|remarks|summary",
    "price": "price|sale price|selling price|asking price|expected price|total price|cost|amount|price text|avg price"
    "|average price",
    "rent": "rent|monthly rent|rent per month|rent month|expected rent|rental|rent amount",
    "location": "location|locality|area locality|locality name|area name|sub locality|neighbourhood|neighborhood",
    "address": "address|full address|property address|flat address|street address|complete address|street",
    "city": "city|city name",
    "state": "state|state name",
    "pincode": "pincode|pin code|pin|zip|zip code|zipcode|postal code|postcode",
    "propertyType": "property type|type of property|type of building|building type|property category|category|type"
    "|unit type",
    "listingType": "listing type|transaction type|transaction|purpose|listed for|listing for|sale or rent|sale rent"
    "|rent or sale|offer type|ad type",
    "bedrooms": "bedrooms|bedroom|bhk|beds|bed rooms|bhk type|rooms|no of bhk",
    "configuration": "configuration|configurations|config|unit configuration|config text|flat type",
    "bathrooms": "bathrooms|bathroom|baths|bath|bath rooms|toilets|washrooms",
    "area": "area|size|super area|super built up area|super builtup area|built up area|builtup area|covered area"
    "|saleable area|carpet area|plot area|plot size|land area|total area|sizes",
    "parkingSpaces": "parking spaces|parking|parkings|car parking spaces|parking slots|covered parking",
    "floorNumber": "floor number|floor no|floor|property on floor|on floor",
    "totalFloors": "total floors|total floor|no of floors|floors|storeys|floors in building",
    "ageOfProperty": "age of property|property age|age|building age|age of construction|age years|age in years",
    "facing": "facing|property facing|direction|door facing|main door facing|facing direction|entrance facing",
    "furnishedStatus": "furnished status|furnishing status|furnishing|furnished|furnishing type|furnish type",
    "amenities": "amenities|amenity|society amenities|features|facilities",
    "nearbyFacilities": "nearby facilities|landmarks|landmark|nearby|nearby places|nearby landmarks",
    "contactName": "contact name|contact person|owner name|agent name|seller name|dealer name",
    "contactPhone": "contact phone|contact number|contact no|phone|phone number|phone no|mobile|mobile number|mobile no"
    "|owner phone|owner mobile",
    "contactEmail": "contact email|email|e mail|email id|email address|owner email",
    "latitude": "latitude|lat",
    "longitude": "longitude|lng|lon|long",
    "reraId": "rera id|rera|rera no|rera number|rera registration|rera registration no|rera registration number",
}
"""The headers of each field in spreadsheets of portals and agencies; the first one of a file's that is there counts."""
_BY_HEADER = {
    header: (target, rank)
    for target, headers in _HEADERS.items()
    for rank, header in enumerate(headers.split("|"))
}  # fmt: skip
_NOISE = re.compile(r"^(?:property|listing|no of|number of|total no of|flat|the) | (?:in|inr|rs|rupees|count|y n)$")
_AREA_UNIT = re.compile(rf" (?:in |per )?(?P<unit>{AREA.unit})$")
_MONEY_UNIT = re.compile(rf" (?:in )?(?:rs |inr )?(?P<unit>{MONEY.unit})$")
_AREA_TARGETS = {AREA.size(unit): target for target, unit in AREA_UNITS.items() if unit}
_MONEY_TARGETS = {MONEY.size(unit): target for target, unit in PRICE_UNITS.items() if unit}
_FLAGS_TOGETHER = 3
"""So many columns that are amenities make it likely that `Bed` is one, too."""


class ImportMapping(Model):
    """How the rows of a file become listings."""

    columns: dict[str, str]
    """The field of each column that is read, one of TARGETS. Several columns can be `amenities`."""
    defaults: dict[str, JsonValue] = Field(default_factory=dict)
    """Values of fields for the rows that state none, such as `{"listingType": "SALE"}`."""


@dataclass(frozen=True)
class MappingProblem:
    """What is wrong with a mapping."""

    name: str
    """The column or the field."""
    reason: str


def guess(headers: Sequence[str]) -> dict[str, str]:
    """The fields of the columns whose headers are known, by column. Other columns are not read.

    Of several columns for one field the one with the most usual header is taken. A unit in a header, such as
    `Area (sq.yd)` or `Price in lakhs`, is that of numbers without one.
    """
    best: dict[str, tuple[int, str, str]] = {}
    for header in headers:
        if found := _target(header):
            target, rank = found
            slot = slot_of(target)
            if slot not in best or rank < best[slot][0]:
                best[slot] = rank, header, target
    if "price" in best:
        best.pop("rate", None)
    columns = {header: target for _, header, target in best.values()}
    others = [header for header in headers if header not in columns]
    certain = [header for header in others if amenity_of(header, certain=True)]
    if len(certain) >= _FLAGS_TOGETHER:
        certain = [header for header in others if amenity_of(header)]
    columns |= dict.fromkeys(certain, "amenities")
    return {header: columns[header] for header in headers if header in columns}


def slot_of(target: str) -> str:
    """The field of the listing that a target gives, or `rate`: all that give the same one exclude each other."""
    return _SLOTS.get(target, target)


def _target(header: str) -> tuple[str, int] | None:
    """The target of a header, and its rank among those of the target."""
    name = " ".join(header_words(header))
    for short in (name, _NOISE.sub("", name), " ".join(words_of(header))):
        if found := _BY_HEADER.get(short):
            return found
    if unit := _AREA_UNIT.search(name):
        target = _AREA_TARGETS.get(AREA.size(unit["unit"]))
        field, rank = _BY_HEADER.get(_NOISE.sub("", name[: unit.start()]), ("", 0))
        if field == "area" and target:
            return target, rank
        rate = {"areaSqft": "pricePerSqft", "areaSqyd": "pricePerSqyd"}.get(target or "")
        return (rate, rank) if rate and (field == "price" or name.startswith("rate")) else None
    if unit := _MONEY_UNIT.search(name):
        field, rank = _BY_HEADER.get(_NOISE.sub("", name[: unit.start()]), ("", 0))
        target = _MONEY_TARGETS.get(MONEY.size(unit["unit"]))
        return (target, rank) if field == "price" and target else None
    return None


def check(mapping: ImportMapping, headers: Iterable[str]) -> tuple[MappingProblem, ...]:
    """What is wrong with a mapping for a file with these headers; nothing, if it can be used.

    Price, location, type of property and type of listing need a column or a default, or what they are derived from
    (see import_rows.py). Title and description are composed where they are missing.
    """
    return (*_columns_that_do_not_fit(mapping, set(headers)), *_missing(mapping), *_wrong_defaults(mapping.defaults))


def _columns_that_do_not_fit(mapping: ImportMapping, headers: set[str]) -> Iterable[MappingProblem]:
    taken: dict[str, str] = {}
    for column, target in mapping.columns.items():
        if column not in headers:
            yield MappingProblem(column, "The file has no column of this name.")
        elif target not in TARGETS:
            yield MappingProblem(column, f"Give one of {', '.join(TARGETS)}.")
        elif (first := taken.setdefault(slot_of(target), column)) != column and target != "amenities":
            yield MappingProblem(column, f"The column {first} gives {slot_of(target)} already. Map one of them.")


def _missing(mapping: ImportMapping) -> Iterable[MappingProblem]:
    given = {slot_of(target) for target in mapping.columns.values()} | mapping.defaults.keys()
    targets = set(mapping.columns.values())
    if not given & {"price"} and not {"rate", "areaSqft"} <= given:
        yield MappingProblem("price", "Map a column to price or rent, or one to pricePerSqft and one to area.")
    if not given & {"location", "address"}:
        yield MappingProblem("location", "Map a column to location, or to an address that ends with the locality.")
    if not given & {"propertyType", "configuration", "title"}:
        yield MappingProblem("propertyType", "Map a column to propertyType, or give a default such as APARTMENT.")
    if "listingType" not in given and "rent" not in targets:
        yield MappingProblem("listingType", "Map a column to listingType, or give a default: SALE, RENT or PG.")


def _wrong_defaults(defaults: Mapping[str, Any]) -> Iterable[MappingProblem]:
    for field, value in defaults.items():
        if field not in FIELDS:
            yield MappingProblem(field, f"Give defaults for fields of a listing: {', '.join(FIELDS)}.")
            continue
        try:
            PropertyPatch.model_validate({field: default_of(field, value)})
        except Unclear as unclear:
            yield MappingProblem(field, str(unclear))
        except ValidationError as error:
            yield MappingProblem(field, reason(error.errors()[0]))


def default_of(field: str, value: Any) -> Any:
    """The value of a default: read as a cell where it is a text, so that `Flat` is a type. Raises Unclear."""
    if field == "amenities":
        return amenities([("amenities", value)])
    read = CELLS.get(field)
    return read(text_of(value)) if read and isinstance(value, str) else value
