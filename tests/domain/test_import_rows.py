"""Rows of spreadsheets become listings, or are refused with everything that is wrong with them."""

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.import_cells import shortened
from domain.import_mapping import TARGETS, ImportMapping, check, guess, slot_of
from domain.import_rows import FieldProblem, RowRead, RowRefused, read_row
from domain.property import Facing, FurnishedStatus, ListingType, PropertyDetails, PropertyType

DATA = Path("../shared/data")
needs_data = pytest.mark.skipif(not DATA.exists(), reason="the real listings of ../shared/data are not on this machine")

FLAT: dict[str, Any] = {
    "price": "85 L",
    "location": "Kondapur",
    "propertyType": "Flat",
    "listingType": "Sale",
    "bedrooms": "3",
    "area": "1,500 sft",
}


def read(*, defaults: dict[str, Any] | None = None, **cells: Any) -> RowRead:
    """The listing of a row whose columns are named as their fields, of FLAT and the cells; None leaves one out."""
    row = {field: cell for field, cell in (FLAT | cells).items() if cell is not None}
    columns = {field: field if field in TARGETS else guess([field])[field] for field in row}
    return read_row(row, ImportMapping(columns=columns, defaults=defaults or {}))


def refused(**cells: Any) -> list[tuple[str, str, str]]:
    with pytest.raises(RowRefused) as row:
        read(**cells)
    return [(error.field, error.value, error.reason) for error in row.value.errors]


def test_all_fields_of_a_listing_are_read() -> None:
    row = read(
        externalId="AB-17",
        title="  Bright flat\nnear the lake ",
        description="First line.  \n\n\n   Second line. ",
        price="₹1.2 Cr",
        address="Flat 804, Aparna Towers, Kondapur, Hyderabad - 500084",
        city="Hyderabad",
        state="Andhra Pradesh",
        bedrooms="3BHK+study",
        bathrooms="3.0",
        parkingSpaces="2 covered",
        floorNumber="8 out of 12",
        ageOfProperty="5 years",
        facing="North-East facing",
        furnishedStatus="Semi-Furnished",
        amenities="Gym; Swimming pool, gymnasium | Lift",
        nearbyFacilities="Metro station",
        contactName="Ravi Kumar",
        contactPhone="919848012345.0",
        contactEmail="Ravi@Example.com",
        latitude="17.4622",
        longitude=78.3568,
        reraId="p02400001234",
    )

    assert row.external_id == "AB-17"
    assert row.details == PropertyDetails(
        title="Bright flat near the lake",
        description="First line.\nSecond line.",
        price=12_000_000,
        location="Kondapur",
        property_type=PropertyType.APARTMENT,
        listing_type=ListingType.SALE,
        address="Flat 804, Aparna Towers, Kondapur",
        city="Hyderabad",
        state="Telangana",
        pincode="500084",
        bedrooms=3,
        bathrooms=3,
        area_sqft=1_500,
        parking_spaces=2,
        floor_number=8,
        total_floors=12,
        age_of_property=5,
        facing=Facing.NORTH_EAST,
        furnished_status=FurnishedStatus.SEMI_FURNISHED,
        amenities=("Gym", "Swimming pool", "Lift", "Study"),
        nearby_facilities="Metro station",
        contact_name="Ravi Kumar",
        contact_phone="+919848012345",
        contact_email="ravi@example.com",
        latitude=17.4622,
        longitude=78.3568,
        rera_id="P02400001234",
    )
    assert set(row.derived) == {"state", "pincode"}


def test_json_keeps_numbers_lists_booleans_and_nulls() -> None:
    row = json.loads(
        '{"id": 17, "price": 8500000, "location": "Kondapur", "propertyType": "VILLA", "listingType": "SALE",'
        ' "bedrooms": 4.0, "area": 2400.4, "pincode": 500084, "amenities": ["Lift", "Gym", null], "Pool": true,'
        ' "CCTV": false, "bathrooms": null, "latitude": 17.46, "longitude": 78.35}'
    )
    read_ = read_row(row, ImportMapping(columns=guess(list(row))))

    assert read_.external_id == "17"
    assert read_.details.model_dump(exclude_defaults=True) == {
        "title": "4 BHK villa in Kondapur",
        "description": "4 BHK villa in Kondapur, Hyderabad: 2,400 sq ft.",
        "price": 8_500_000,
        "location": "Kondapur",
        "property_type": PropertyType.VILLA,
        "listing_type": ListingType.SALE,
        "pincode": "500084",
        "bedrooms": 4,
        "area_sqft": 2_400,
        "amenities": ("Lift", "Gym", "Swimming pool"),
        "latitude": 17.46,
        "longitude": 78.35,
    }


def test_cells_that_state_nothing_are_left_out() -> None:
    row = read(bathrooms="N/A", facing="-", reraId="NULL", latitude="", longitude=" ", contactPhone="nil")

    assert row.details.model_dump(exclude_defaults=True).keys() == {
        "title", "description", "price", "location", "property_type", "listing_type", "bedrooms", "area_sqft",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("cells", "title", "description"),
    [
        ({}, "3 BHK flat in Kondapur", "3 BHK flat in Kondapur, Hyderabad: 1,500 sq ft."),
        (
            {"listingType": "To let", "price": "25 K", "furnishedStatus": "Unfurnished", "floorNumber": "Ground"},
            "3 BHK flat for rent in Kondapur",
            "3 BHK flat for rent in Kondapur, Hyderabad: 1,500 sq ft, ground floor, unfurnished.",
        ),
        (
            {"propertyType": "Residential plot", "bedrooms": None, "area": "200 sq.yd", "facing": "E"},
            "1,800 sq ft plot in Kondapur",
            "1,800 sq ft plot in Kondapur, Hyderabad: 1,800 sq ft, east facing.",
        ),
        (
            {"description": "Near ORR"},
            "3 BHK flat in Kondapur",
            "Near ORR. 3 BHK flat in Kondapur, Hyderabad: 1,500 sq ft.",
        ),
    ],
)
def test_title_and_description_are_composed_where_they_are_missing(
    cells: dict[str, Any], title: str, description: str
) -> None:
    row = read(**cells)

    assert (row.details.title, row.details.description) == (title, description)
    assert {"title", "description"} <= set(row.derived)


@pytest.mark.parametrize(
    ("address", "location", "rest"),
    [
        ("Tukkuguda, Hyderabad - South, Andhra Pradesh", "Tukkuguda", None),
        ("804, h-6., Khaja Guda, Hyderabad - West, Andhra Pradesh", "Khaja Guda", "804, h-6., Khaja Guda"),
        ("Osman Nagar, West Hyderabad, Hyderabad", "Osman Nagar", None),
        ("12-3 MG Road, Begumpet", "Begumpet", "12-3 MG Road, Begumpet"),
    ],
)
def test_location_is_the_last_part_of_the_address_before_the_city(
    address: str, location: str, rest: str | None
) -> None:
    row = read(location=None, address=address)

    assert (row.details.location, row.details.address) == (location, rest)
    assert "location" in row.derived


def test_address_without_a_locality_is_refused() -> None:
    why = "Give the locality, or an address that ends with the locality and the city."

    assert refused(location=None, address="Hyderabad, Andhra Pradesh") == [
        ("location", "Hyderabad, Andhra Pradesh", why)
    ]
    assert refused(location=None, address="Flat 302, Ravi Residency") == [("location", "Flat 302, Ravi Residency", why)]
    assert refused(location="hyderabad")[0][:2] == ("location", "hyderabad")


def test_old_state_stays_outside_of_hyderabad() -> None:
    assert read(city="Vijayawada", state="Andhra Pradesh").details.state == "Andhra Pradesh"
    assert read(state="Andhra Pradesh", defaults={"city": "Vijayawada"}).details.state == "Andhra Pradesh"
    assert read(city="Hyderabad", state="AP").details.state == "Telangana"


@pytest.mark.parametrize(
    ("cells", "type_", "bedrooms"),
    [
        ({"configuration": "3 BHK Flat"}, PropertyType.APARTMENT, 3),
        ({"configuration": "3 BHK Duplex, Villa"}, PropertyType.VILLA, 3),
        ({"configuration": "Residential Plots", "area": "200 gaj"}, PropertyType.PLOT, None),
        ({"configuration": "1 RK Studio Apartment"}, PropertyType.STUDIO, 0),
        ({"bedrooms": "2 BHK Apartment"}, PropertyType.APARTMENT, 2),
        ({"title": "Independent house with a garden", "bedrooms": "4"}, PropertyType.HOUSE, 4),
    ],
)
def test_type_is_in_the_configuration_or_the_title(
    cells: dict[str, Any], type_: PropertyType, bedrooms: int | None
) -> None:
    row = read(**({"propertyType": None, "bedrooms": None} | cells))

    assert (row.details.property_type, row.details.bedrooms) == (type_, bedrooms)
    assert "propertyType" in row.derived


@pytest.mark.parametrize(
    ("text", "type_"),
    [
        ("Multistorey Apartment", "APARTMENT"), ("Builder Floor Apartment", "APARTMENT"), ("Penthouse", "APARTMENT"),
        ("Individual House", "HOUSE"), ("Villas", "VILLA"), ("Villa Plots", "PLOT"), ("Agricultural Land", "PLOT"),
        ("Commercial Office Space", "OFFICE"), ("Showroom", "SHOP"), ("Godown", "WAREHOUSE"),
        ("Farm House", "FARMHOUSE"),
        ("Studio Apartment", "STUDIO"), ("COMMERCIAL", "COMMERCIAL"),
    ],
)  # fmt: skip
def test_type_of_a_property_is_read_from_the_words_of_portals(text: str, type_: str) -> None:
    assert read(propertyType=text, area="200 sq yd").details.property_type == type_


def test_column_with_a_rent_is_for_rent() -> None:
    row = read_row(
        {"Rent": "25 K", "Locality": "Kondapur", "Type": "Flat"},
        ImportMapping(columns=guess(["Rent", "Locality", "Type"])),
    )

    assert (row.details.listing_type, row.details.price) == (ListingType.RENT, 25_000)
    assert "listingType" in row.derived


def test_price_is_the_rate_times_the_area() -> None:
    in_the_cell = read(price="5.20 K/sq.ft", area="1125.00 sq.ft.")
    in_a_column = read(price=None, pricePerSqyd="25,000", propertyType="Plot", area="200 sq.yd")

    assert (in_the_cell.details.price, in_a_column.details.price) == (5_850_000, 5_000_000)
    assert "price" in in_the_cell.derived
    assert "price" in in_a_column.derived


def test_default_is_for_rows_that_state_nothing() -> None:
    defaults = {
        "listingType": "Rent",
        "city": "Secunderabad",
        "furnishedStatus": "Furnished",
        "amenities": "Lift, Pool",
    }

    row = read(listingType=None, price="25 K", furnishedStatus="N/A", defaults=defaults).details
    assert (row.listing_type, row.city, row.furnished_status) == ("RENT", "Secunderabad", "FURNISHED")
    assert row.amenities == ("Lift", "Pool")
    assert read(furnishedStatus="Unfurnished", defaults=defaults).details.furnished_status == "UNFURNISHED"


@pytest.mark.parametrize(
    ("cells", "problem"),
    [
        ({"price": "85"}, ("price", "85", "The number has no unit. It could be ₹85 or ₹85 L or ₹85 Cr.")),
        ({"price": "Price on request"}, ("price", "Price on request", "Give the price; a listing needs one.")),
        ({"price": 0}, ("price", "0", "Give a number greater than 0.")),
        ({"price": True}, ("price", "True", "Give a text or a number.")),
        ({"price": "20 L Cr"}, ("price", "20 L Cr", "This is not one certain price. It could be ₹20 L.")),
        ({"price": "1000000 Cr"}, ("price", "1000000 Cr", "Give 1000000000000 or less.")),
        (
            {"propertyType": "Independent House/Villa"},
            ("propertyType", "Independent House/Villa", "Give one of them. It could be HOUSE or VILLA."),
        ),
        ({"listingType": "Auction"}, ("listingType", "Auction", "Give one of RENT, SALE, PG.")),
        ({"bedrooms": "2.5 BHK"}, ("bedrooms", "2.5 BHK", "Bedrooms are whole. It could be 2 BHK + study or 3 BHK.")),
        ({"bedrooms": "101"}, ("bedrooms", "101", "Give 100 or less.")),
        (
            {"bathrooms": "0.0"},
            (
                "bathrooms",
                "0.0",
                "A home has at least one bathroom. Leave the cell empty where the number is not known.",
            ),
        ),
        (
            {"parkingSpaces": "203.0"},
            ("parkingSpaces", "203.0", "A home has at most 10 parking spaces. This may be the number of the flat."),
        ),
        (
            {"floorNumber": "5 out of 4"},
            ("floorNumber", "5 out of 4", "Give a floorNumber that is not above totalFloors."),
        ),
        ({"latitude": "17.46"}, ("longitude", "", "Give latitude and longitude together, or neither.")),
        ({"latitude": "33.31", "longitude": "33.31"}, ("longitude", "33.31", "Give 68.0 or more.")),
        (
            {"latitude": "N 17", "longitude": "78.3"},
            ("latitude", "N 17", "Give degrees as a decimal number, such as 17.4401."),
        ),
        (
            {"latitude": "28.6139", "longitude": "77.2090"},
            ("latitude", "28.6139, 77.209", "The point is 1,232 km from Kondapur. Correct the point or the location."),
        ),
        ({"pincode": "050008"}, ("pincode", "050008", "Give six digits, of which the first is not 0.")),
        ({"reraId": "applied"}, ("reraId", "applied", "Give P0 and ten digits, such as P02400001234.")),
        (
            {"contactPhone": "9848012345 / 9848012346"},
            (
                "contactPhone",
                "9848012345 / 9848012346",
                "Give a ten-digit Indian number, or an international one that begins with +.",
            ),
        ),
        ({"contactEmail": "ravi"}, ("contactEmail", "ravi", "Give an e-mail address, such as ravi@example.com.")),
        ({"title": "Flat"}, ("title", "Flat", "Use at least 5 characters.")),
        ({"title": "Flat\x00 here"}, ("title", "Flat here", "Remove the control characters.")),
        ({"title": "\ud800 a flat"}, ("title", "a flat", "Give a text of valid Unicode, without lone surrogates.")),
        ({"nearbyFacilities": "x" * 1001}, ("nearbyFacilities", "x" * 99 + "…", "Use at most 1000 characters.")),
        ({"amenities": "x" * 61}, ("amenities", "x" * 61, "Use at most 60 characters.")),
        ({"Pool": "perhaps"}, ("amenities", "perhaps", "Give 1 or 0, or yes or no.")),
        ({"facing": "North/East"}, ("facing", "North/East", f"Give one of {', '.join(Facing)}.")),
        (
            {"externalId": "x" * 201},
            ("externalId", "x" * 99 + "…", "Use at most 200 characters without control characters."),
        ),
    ],
)  # fmt: skip
def test_wrong_cell_is_refused_with_its_value_and_the_reason(
    cells: dict[str, Any], problem: tuple[str, str, str]
) -> None:
    field, value, reason = problem
    (found,) = refused(**cells)

    assert found == (field, value, reason)


def test_all_problems_of_a_row_are_reported_at_once() -> None:
    found = refused(price="85", bedrooms="2, 3 BHK", area="1000-1200 sft", facing="up", location=None, pincode="1")

    assert [field for field, _, _ in found] == ["facing", "bedrooms", "areaSqft", "price", "location", "pincode"]


def test_area_that_is_refused_does_not_make_its_rate_wrong() -> None:
    assert [field for field, _, _ in refused(price="5.20 K/sq.ft", area="1000-1200 sft")] == ["areaSqft"]


def test_point_of_another_city_may_be_anywhere() -> None:
    details = read(city="New Delhi", latitude="28.6139", longitude="77.2090").details

    assert (details.city, details.latitude) == ("New Delhi", 28.6139)


def test_office_may_have_many_parking_spaces_and_no_bathroom() -> None:
    details = read(propertyType="Office", parkingSpaces="40", bathrooms="0").details

    assert (details.parking_spaces, details.bathrooms) == (40, 0)


@pytest.mark.parametrize(
    ("value", "has"),
    [("1", True), ("Yes", True), (True, True), ("2.0", True), ("0", False), ("no", False), ("9", False), ("", False)],
)  # fmt: skip
def test_flag_of_an_amenity_is_read(value: Any, has: bool) -> None:
    assert read(Lift=value).details.amenities == (("Lift",) if has else ())


@pytest.mark.parametrize("value", ["a," * 5_000, ["a"] * 5_000, {"a": "a" * 9_000}])
def test_cell_that_is_too_long_is_refused_before_it_is_split(value: Any) -> None:
    with pytest.raises(RowRefused, match="amenities: The cell has more than 8,000 characters"):
        read(Amenities=value)


_VALUES = st.one_of(
    st.text(max_size=40),
    st.sampled_from(
        ["85 L", "3 BHK", "Flat", "Sale", "1", "0", "-", "NULL", "Kondapur, Hyderabad", "1e9", "\ud800", "½"]
    ),
    st.none() | st.booleans() | st.integers() | st.floats(),
    st.lists(st.text(max_size=5) | st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


@given(st.dictionaries(st.sampled_from(TARGETS), _VALUES, max_size=12))
def test_any_row_is_a_valid_listing_or_refused(row: dict[str, Any]) -> None:
    by_slot = {slot_of(target): target for target in row}
    mapping = ImportMapping(columns={target: target for target in by_slot.values()})
    try:
        read_ = read_row(row, mapping)
    except RowRefused as refused_:
        problems = refused_.errors
    else:
        problems = ()
        assert PropertyDetails.model_validate_json(read_.details.model_dump_json()) == read_.details
    for problem in problems:
        assert problem.field
        assert problem.reason
        assert len(problem.value) <= 100
        assert "\x00" not in problem.value.encode().decode()
    assert len({(problem.field, problem.reason) for problem in problems}) == len(problems)


@given(_VALUES)
def test_shortened_value_can_be_stored(value: Any) -> None:
    short = shortened(value)

    assert len(short) <= 100
    assert "\x00" not in short.encode().decode()


@needs_data
@pytest.mark.parametrize(
    ("file", "defaults", "read_", "refused_"),
    [
        (
            "listings_sale_geo.csv",
            {"listingType": "SALE"},
            5_385,
            {"parkingSpaces": 83, "location": 5, "bathrooms": 2, "nearbyFacilities": 1, "address": 1},
        ),
        ("listings_sale_amenities.csv", {"listingType": "SALE", "propertyType": "APARTMENT"}, 2_517, {"location": 1}),
        ("listings_rent.csv", {"propertyType": "APARTMENT"}, 852, {"location": 2}),
        (
            "projects_units.csv",
            {"listingType": "SALE"},
            1,
            {"areaSqft": 58, "price": 54, "propertyType": 51, "location": 50, "bedrooms": 33},
        ),
    ],
)
def test_real_files_are_read_but_for_the_rows_that_were_checked_by_hand(
    file: str, defaults: dict[str, Any], read_: int, refused_: dict[str, int]
) -> None:
    with (DATA / file).open(encoding="utf-8", newline="") as source:
        rows = list(csv.DictReader(source))
    mapping = ImportMapping(columns=guess([column or "column" for column in rows[0]]), defaults=defaults)
    assert check(mapping, rows[0]) == ()
    problems: list[FieldProblem] = []
    listings = []
    for row in rows:
        try:
            listings.append(read_row(row, mapping))
        except RowRefused as refused_row:
            problems += refused_row.errors

    assert len(listings) == read_
    assert Counter(problem.field for problem in problems) == refused_


@needs_data
def test_the_one_project_with_a_rate_and_one_area_has_a_price() -> None:
    with (DATA / "projects_units.csv").open(encoding="utf-8", newline="") as source:
        row = next(row for row in csv.DictReader(source) if row["Flat Name"] == "Vajra Nature City")
    details = read_row(
        row, ImportMapping(columns=guess([c for c in row if c]), defaults={"listingType": "SALE"})
    ).details

    # 7.00 K/sq.ft for 2300.00 sq.ft.
    assert (details.price, details.area_sqft, details.property_type) == (16_100_000, 2_300, PropertyType.VILLA)
    assert (details.title, details.location, details.address) == (
        "Vajra Nature City",
        "Bachupally",
        "Bowrampet, Bachupally",
    )
