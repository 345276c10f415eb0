"""Reads a row of a spreadsheet as the details of a listing, or refuses it with all that is wrong with it.

What a row does not state is derived from what it does, or left out; `RowRead.derived` names such fields:

- the title and the description are composed from rooms, type, place and area;
- the location is the last part of the address before the city: `804, Khaja Guda, Hyderabad - West` is in Khaja Guda;
- the type of the property is in a configuration (`3 BHK Flat`) or the title; a column with a rent lists for RENT;
- the price is a rate times the area;
- the state is Telangana where old data of Hyderabad says Andhra Pradesh;
- the postal code is that of the address.

A home (not an office or a plot) without a bathroom or with more than MOST_PARKING parking spaces is refused: in
portals' data the one means that nobody has asked, and the other is the number of the flat. So is a listing whose point
is more than FAR_KM from the locality of Hyderabad that it names.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from domain.figures import Rooms, Unclear, is_rate, is_stated, read_area, read_count, read_floor, read_price, read_rooms
from domain.gazetteer import hyderabad
from domain.import_cells import CELLS, amenities, choice, one_line, paragraphs, shortened, text_of
from domain.import_mapping import AREA_UNITS, PRICE_UNITS, RATES, ImportMapping, default_of, slot_of
from domain.import_places import far_away, is_in_hyderabad, split_address
from domain.import_texts import HOMES, facts, headline
from domain.place_names import without_city, words_of
from domain.property import ListingType, PropertyDetails, PropertyType
from domain.reasons import reason

MOST_PARKING = 10
"""Parking spaces of a home in the real files: above it they are 40, 101, 203, the numbers of flats."""
_LONGEST_ID = 200
_LONGEST_CELL = 8_000
"""Characters: no field takes more, and splitting long lists of amenities takes a worker's time."""
_TOO_LONG = f"The cell has more than {_LONGEST_CELL:,} characters. Shorten it."
_LEAST_DESCRIPTION = 10
"""Characters that the description of a listing needs."""
_BETWEEN = {"half_a_point": ("longitude", "latitude"), "floor_above_roof": ("floorNumber", "totalFloors")}
"""The fields of a rule between two."""


@dataclass(frozen=True)
class FieldProblem:
    """Why a field of a row is refused."""

    field: str
    """As the API names it."""
    value: str
    """The beginning of the cell; empty where there is none."""
    reason: str


class RowRefused(ValueError):
    """A row that cannot become a listing, with everything that is wrong with it."""

    def __init__(self, errors: tuple[FieldProblem, ...]) -> None:
        super().__init__("; ".join(f"{error.field}: {error.reason}" for error in errors))
        self.errors = errors


@dataclass(frozen=True)
class RowRead:
    """A row that is a listing."""

    details: PropertyDetails
    external_id: str | None
    derived: tuple[str, ...] = ()
    """The fields that no column states."""


def read_row(values: Mapping[str, Any], mapping: ImportMapping) -> RowRead:
    """The listing of a row, by the columns of a mapping that `check` has accepted. Raises RowRefused."""
    row = _Row(values, mapping)
    row.read()
    details = row.validated()
    if row.problems or details is None:
        raise RowRefused(tuple(row.problems))
    external_id = row.details.get("externalId")
    return RowRead(details, external_id, tuple(row.derived))


@dataclass
class _Row:
    """A row while it is read."""

    values: Mapping[str, Any]
    mapping: ImportMapping
    details: dict[str, Any] = field(default_factory=dict)
    problems: list[FieldProblem] = field(default_factory=list)
    derived: dict[str, None] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    """What the cells state, by field."""
    targets: dict[str, str] = field(default_factory=dict)
    """How each of them is mapped."""
    flags: list[tuple[str, Any]] = field(default_factory=list)
    """The columns with amenities."""

    def read(self) -> None:
        self._split()
        for name, text in self.texts.items():
            if name in CELLS:
                self._set(name, text, CELLS[name])
        rooms = self._rooms()
        self._types(rooms)
        self._area_and_price()
        self._floors()
        self._place()
        self._amenities(rooms)
        for name, value in self.mapping.defaults.items():
            if self._is_free(name) and value is not None:
                self.details[name] = default_of(name, value)
        self._check_home()
        self._texts()

    def _split(self) -> None:
        """Sort the cells that state anything by the field that they give."""
        for column, target in self.mapping.columns.items():
            value = self.values.get(column)
            if _length(value) > _LONGEST_CELL:
                self._refuse(slot_of(target), value, _TOO_LONG)
                continue
            if target == "amenities":
                if value is not None:
                    self.flags.append((column, value))
                continue
            name = slot_of(target)
            try:
                text = text_of(value)
            except Unclear as unclear:
                self._refuse(name, value, str(unclear))
                continue
            if is_stated(text):
                self.texts[name] = text
                self.targets[name] = target

    def _set(self, name: str, text: str, read: Callable[[str], Any]) -> None:
        try:
            value = read(text)
        except Unclear as unclear:
            self._refuse(name, text, str(unclear))
        else:
            if value is not None:
                self.details[name] = value

    def _refuse(self, name: str, value: Any, why: str) -> None:
        self.problems.append(FieldProblem(name, shortened(value), why))

    def _is_free(self, name: str) -> bool:
        """Whether a field has neither a value nor a problem."""
        return name not in self.details and all(problem.field != name for problem in self.problems)

    def _derive(self, name: str, value: Any) -> None:
        self.details[name] = value
        self.derived[name] = None

    def _rooms(self) -> Rooms | None:
        """The rooms of `bedrooms`, or of a configuration that has a number."""
        text = self.texts.get("bedrooms")
        if text is None:
            text = self.texts.get("configuration", "")
            if not re.search(r"\d|bhk|studio|\brk\b", text, re.IGNORECASE):
                return None
        try:
            rooms = read_rooms(text)
        except Unclear as unclear:
            self._refuse("bedrooms", text, str(unclear))
            return None
        if rooms:
            self.details["bedrooms"] = rooms.bedrooms
        return rooms

    def _types(self, rooms: Rooms | None) -> None:
        if self._is_free("listingType"):
            if "listingType" in self.mapping.defaults:
                self.details["listingType"] = default_of("listingType", self.mapping.defaults["listingType"])
            elif self.targets.get("price") == "rent":
                self._derive("listingType", ListingType.RENT)
            else:
                self._refuse("listingType", "", "Give SALE, RENT or PG in this column, or as a default.")
        if not self._is_free("propertyType"):
            return
        for text in (self.texts.get("configuration"), rooms and rooms.rest, self.texts.get("title")):
            if text and any(char.isalpha() for char in text):
                try:
                    return self._derive("propertyType", choice("property_type", text))
                except Unclear as unclear:
                    if unclear.readings:
                        return self._refuse("propertyType", text, str(unclear))
        if "propertyType" in self.mapping.defaults:
            self.details["propertyType"] = default_of("propertyType", self.mapping.defaults["propertyType"])
        else:
            self._refuse("propertyType", "", f"Give one of {', '.join(PropertyType)} in this column, or as a default.")

    def _area_and_price(self) -> None:
        plot = self.details.get("propertyType") == PropertyType.PLOT
        if text := self.texts.get("areaSqft"):
            unit = AREA_UNITS[self.targets["areaSqft"]]
            self._set("areaSqft", text, lambda text: read_area(text, unit=unit, plot=plot))
        area = self.details.get("areaSqft")
        sale = self.details.get("listingType", ListingType.SALE) == ListingType.SALE
        needs_area = "rate" in self.texts or is_rate(self.texts.get("price", ""))
        if needs_area and not area and "areaSqft" in self.texts:
            return  # the price is right, the area is refused
        if text := self.texts.get("price"):
            unit = PRICE_UNITS[self.targets["price"]]
            if is_rate(text):
                self.derived["price"] = None
            self._set("price", text, lambda text: read_price(text, sale=sale, unit=unit, area_sqft=area))
        elif text := self.texts.get("rate"):
            unit = RATES[self.targets["rate"]]
            self.derived["price"] = None
            by_unit = text if is_rate(text) else f"{text} / {unit}"
            self._set("price", text, lambda _: read_price(by_unit, sale=sale, area_sqft=area))
        if self._is_free("price") and "price" not in self.mapping.defaults:
            column = next((c for c, target in self.mapping.columns.items() if slot_of(target) in ("price", "rate")), "")
            self._refuse("price", self.values.get(column), "Give the price; a listing needs one.")

    def _floors(self) -> None:
        for name in ("totalFloors", "floorNumber"):
            if text := self.texts.get(name):
                try:
                    floor, total = (None, read_count(text)) if name == "totalFloors" else read_floor(text)
                except Unclear as unclear:
                    self._refuse(name, text, str(unclear))
                    continue
                if floor is not None:
                    self.details["floorNumber"] = floor
                if total is not None:
                    self.details.setdefault("totalFloors", total)

    def _place(self) -> None:
        """The location and the address; the city and the state have fields of their own."""
        parts, city = split_address(self.texts.get("address", ""))
        if location := self.texts.get("location"):
            name = one_line(location).removeprefix("in ")
            if without_city(name):
                self.details["location"] = name
            else:
                self._refuse("location", location, "This is no locality. Give the one in the city, such as Gachibowli.")
        elif "location" not in self.mapping.defaults and self._is_free("location"):
            if parts and (city or hyderabad().named(parts[-1])):
                self._derive("location", parts[-1])
            else:
                text = self.texts.get("address", "")
                why = "Give the locality" + (
                    ", or an address that ends with the locality and the city." if text else "."
                )
                self._refuse("location", text, why)
        if len(parts) > 1 or (parts and parts[0] != self.details.get("location")):
            self.details["address"] = ", ".join(parts)
        if self._is_free("pincode") and (found := re.search(r"\b[1-9]\d{5}\b", " ".join(city))):
            self._derive("pincode", found[0])
        state = words_of(str(self.details.get("state", "")))
        city_named = self.details.get("city") or self.mapping.defaults.get("city") or "Hyderabad"
        if state in (["andhra", "pradesh"], ["ap"], ["a", "p"]) and is_in_hyderabad(str(city_named)):
            self._derive("state", "Telangana")

    def _amenities(self, rooms: Rooms | None) -> None:
        if not self.flags and not (rooms and rooms.extras):
            return
        extras: list[tuple[str, Any]] = [("", list(rooms.extras))] if rooms else []
        self.texts["amenities"] = "; ".join(str(value) for _, value in self.flags)
        if len(self.texts["amenities"]) > _LONGEST_CELL:
            return self._refuse("amenities", self.texts["amenities"], _TOO_LONG)
        try:
            if found := amenities(self.flags + extras):
                self.details["amenities"] = found
        except Unclear as unclear:
            self._refuse("amenities", self.texts["amenities"], str(unclear))

    def _check_home(self) -> None:
        if self.details.get("propertyType") not in HOMES:
            return
        if self.details.get("bathrooms") == 0:
            del self.details["bathrooms"]
            why = "A home has at least one bathroom. Leave the cell empty where the number is not known."
            self._refuse("bathrooms", self.texts.get("bathrooms", "0"), why)
        if (parking := self.details.get("parkingSpaces") or 0) > MOST_PARKING:
            del self.details["parkingSpaces"]
            why = f"A home has at most {MOST_PARKING} parking spaces. This may be the number of the flat."
            self._refuse("parkingSpaces", self.texts.get("parkingSpaces", str(parking)), why)

    def _texts(self) -> None:
        """The title and the description, composed where they are missing; what is written short comes first."""
        if description := paragraphs(self.texts.get("description", "")):
            self.details["description"] = description
        if "propertyType" not in self.details or "location" not in self.details:
            return
        title = headline(self.details)
        if self._is_free("title"):
            self._derive("title", title[:200])
        if len(description) < _LEAST_DESCRIPTION and "description" not in self.mapping.defaults:
            composed = f"{title}, {self.details.get('city', 'Hyderabad')}{facts(self.details)}."
            self._derive("description", f"{description.rstrip('.')}. {composed}" if description else composed)

    def validated(self) -> PropertyDetails | None:
        """The details by the rules of the API; what they refuse is a problem of the row."""
        external_id = self.details.get("externalId")
        if external_id is not None and (len(external_id) > _LONGEST_ID or not external_id.isprintable()):
            self._refuse("externalId", external_id, f"Use at most {_LONGEST_ID} characters without control characters.")
        try:
            details = PropertyDetails.model_validate({k: v for k, v in self.details.items() if k != "externalId"})
        except ValidationError as error:
            known = {problem.field for problem in self.problems}
            for fault in error.errors(include_url=False):
                names = (str(fault["loc"][0]),) if fault["loc"] else _BETWEEN[fault["type"]]
                # Without type or location nothing is composed, and they are problems themselves.
                if not known.isdisjoint(names) or (fault["type"] == "missing" and self.problems):
                    continue
                name = next((name for name in names if name not in self.details), names[0])
                known.add(name)
                self._refuse(name, self.texts.get(name, self.details.get(name)), reason(fault))
            return None
        if why := far_away(details):
            self._refuse("latitude", f"{details.latitude}, {details.longitude}", why)
        return details


def _length(value: Any) -> int:
    return len(value if isinstance(value, str) else str(value))
