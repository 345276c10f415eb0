"""Which column of a spreadsheet is which field, guessed or given."""

import csv
from pathlib import Path
from typing import Any

import pytest

from domain.import_mapping import FIELDS, TARGETS, ImportMapping, check, guess

DATA = Path("../shared/data")
needs_data = pytest.mark.skipif(not DATA.exists(), reason="the real listings of ../shared/data are not on this machine")


def headers_of(file: str) -> list[str]:
    with (DATA / file).open(encoding="utf-8", newline="") as source:
        return next(csv.reader(source))


def problems(mapping: ImportMapping, *headers: str) -> dict[str, str]:
    return {problem.name: problem.reason for problem in check(mapping, headers)}


USABLE: dict[str, str] = {"Price": "price", "Locality": "location", "Type": "propertyType", "For": "listingType"}


@pytest.mark.parametrize(
    ("header", "target"),
    [
        ("Price", "price"),
        ("Price (in Lakhs)", "priceLakhs"),
        ("price_cr", "priceCrores"),
        ("Sale Price (INR)", "price"),
        ("Rent/Month", "rent"),
        ("Price_sqft", "pricePerSqft"),
        ("Rate per sq.yd", "pricePerSqyd"),
        ("Area", "area"),
        ("Area (sq.yd)", "areaSqyd"),
        ("areaSqft", "areaSqft"),
        ("Super Built-up Area (Sq.Ft.)", "areaSqft"),
        ("Plot area in acres", "areaAcres"),
        ("No. of Bedrooms", "bedrooms"),
        ("BHK", "bedrooms"),
        ("Configurations", "configuration"),
        ("Locality", "location"),
        ("Property Type", "propertyType"),
        ("Transaction Type", "listingType"),
        ("Furnishing Status", "furnishedStatus"),
        ("Floor No.", "floorNumber"),
        ("Total Floors", "totalFloors"),
        ("PIN Code", "pincode"),
        ("Mobile No", "contactPhone"),
        ("RERA No.", "reraId"),
        ("Property ID", "externalId"),
        ("SwimmingPool", "amenities"),
        ("24X7Security", "amenities"),
        ("Posted On", None),
        ("column 1", None),
        ("School", None),
    ],
)
def test_field_is_guessed_from_the_header(header: str, target: str | None) -> None:
    assert guess([header]).get(header) == target


def test_names_of_the_api_are_known_headers() -> None:
    assert guess(FIELDS) == {field: field for field in FIELDS}


def test_of_two_columns_for_one_field_the_usual_header_is_taken() -> None:
    assert guess(["Carpet Area", "Super Area", "Mobile", "Phone"]) == {"Super Area": "area", "Phone": "contactPhone"}


def test_rate_is_left_out_beside_a_price() -> None:
    assert guess(["Price per sqft", "Area"]) == {"Price per sqft": "pricePerSqft", "Area": "area"}
    assert guess(["Price per sqft", "Area", "Price"]) == {"Area": "area", "Price": "price"}


@needs_data
@pytest.mark.parametrize(
    ("file", "targets", "flags"),
    [
        (
            "listings_sale_geo.csv",
            {
                "price": "price", "Address": "address", "area": "area", "latitude": "latitude",
                "longitude": "longitude", "Bedrooms": "bedrooms", "Bathrooms": "bathrooms", "parking": "parkingSpaces",
                "Furnished_status": "furnishedStatus", "Landmarks": "nearbyFacilities",
                "type_of_building": "propertyType", "desc": "description",
            },
            1,
        ),
        (
            "listings_sale_amenities.csv",
            {"Price": "price", "Area": "area", "Location": "location", "No. of Bedrooms": "bedrooms"},
            35,
        ),
        (
            "listings_rent.csv",
            {
                "BHK": "bedrooms", "Rent": "rent", "Size": "area", "Floor": "floorNumber", "Area Locality": "location",
                "City": "city", "Furnishing Status": "furnishedStatus", "Bathroom": "bathrooms",
            },
            0,
        ),
        (
            "projects_units.csv",
            {
                "Flat Name": "title", "Flat address": "address", "Configurations": "configuration",
                "Avg. Price": "price", "Sizes": "area",
            },
            0,
        ),
        (
            "projects_rera.csv",
            {
                "project_id": "externalId", "project_name": "title", "latitude": "latitude", "longitude": "longitude",
                "locality": "location", "property_type": "propertyType", "rera": "reraId",
            },
            0,
        ),
    ],
)  # fmt: skip
def test_columns_of_the_real_files_are_guessed(file: str, targets: dict[str, str], flags: int) -> None:
    guessed = guess(headers_of(file))

    assert {column: target for column, target in guessed.items() if target != "amenities"} == targets
    assert list(guessed.values()).count("amenities") == flags


def test_usable_mapping_has_no_problems() -> None:
    assert problems(ImportMapping(columns=USABLE), *USABLE) == {}
    assert (
        problems(
            ImportMapping(columns={"Rent": "rent", "Address": "address", "Name": "title"}), "Rent", "Address", "Name"
        )
        == {}
    )


def test_default_replaces_a_column() -> None:
    defaults: dict[str, Any] = {
        "listingType": "Sale",
        "propertyType": "Flat",
        "location": "Kollur",
        "city": "Hyderabad",
    }

    assert problems(ImportMapping(columns={"Price": "price"}, defaults=defaults), "Price") == {}


def test_rate_with_an_area_replaces_the_price() -> None:
    columns = {
        "Rate": "pricePerSqft",
        "Area": "areaSqft",
        "Place": "location",
        "Type": "propertyType",
        "For": "listingType",
    }

    assert problems(ImportMapping(columns=columns), *columns) == {}
    del columns["Area"]
    assert problems(ImportMapping(columns=columns), *columns).keys() == {"price"}


def test_what_nothing_gives_is_named() -> None:
    found = problems(ImportMapping(columns={"Flat": "bedrooms"}), "Flat")

    assert found.keys() == {"price", "location", "propertyType", "listingType"}
    assert found["listingType"] == "Map a column to listingType, or give a default: SALE, RENT or PG."


@pytest.mark.parametrize(
    ("columns", "defaults", "name", "reason"),
    [
        ({"Prise": "price"}, {}, "Prise", "The file has no column of this name."),
        ({"Notes": "colour"}, {}, "Notes", f"Give one of {', '.join(TARGETS)}."),
        ({"Cost": "priceLakhs"}, {}, "Cost", "The column Price gives price already. Map one of them."),
        ({}, {"colour": "red"}, "colour", f"Give defaults for fields of a listing: {', '.join(FIELDS)}."),
        ({}, {"externalId": "1"}, "externalId", f"Give defaults for fields of a listing: {', '.join(FIELDS)}."),
        (
            {},
            {"facing": "up"},
            "facing",
            "Give one of NORTH, NORTH_EAST, EAST, SOUTH_EAST, SOUTH, SOUTH_WEST, WEST, NORTH_WEST.",
        ),
        ({}, {"propertyType": "villa or flat"}, "propertyType", "Give one of them. It could be VILLA or APARTMENT."),
        ({}, {"pincode": "012345"}, "pincode", "Give six digits, of which the first is not 0."),
        ({}, {"bathrooms": 101}, "bathrooms", "Give 100 or less."),
        ({}, {"city": ["Hyderabad"]}, "city", "Give a text, in quotes."),
    ],
)
def test_problem_of_a_mapping_is_named(
    columns: dict[str, str], defaults: dict[str, Any], name: str, reason: str
) -> None:
    headers = [*USABLE, "Notes", "Cost"]

    assert problems(ImportMapping(columns=USABLE | columns, defaults=defaults), *headers) == {name: reason}


def test_several_columns_can_be_amenities() -> None:
    columns = USABLE | {"Lift": "amenities", "Pool": "amenities"}

    assert problems(ImportMapping(columns=columns), *columns) == {}


def test_page_for_senders_names_every_field_of_a_column_that_no_listing_has() -> None:
    page = Path("docs/imports.md").read_text(encoding="utf-8")

    assert [target for target in TARGETS if target not in FIELDS and f"`{target}`" not in page] == []
