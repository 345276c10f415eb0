"""Which listings of one owner are the same place and unit."""

import csv
from pathlib import Path
from typing import Any

import pytest

from domain.duplicates import place_key
from domain.import_mapping import ImportMapping, guess
from domain.import_rows import RowRefused, read_row
from domain.property import PropertyDetails

DATA = Path("../shared/data")

_FLAT: dict[str, Any] = {
    "title": "3 BHK flat in Kukatpally",
    "description": "A flat near the metro station.",
    "price": 8_500_000,
    "location": "Kukatpally",
    "property_type": "APARTMENT",
    "listing_type": "SALE",
    "bedrooms": 3,
    "area_sqft": 1_500,
}
_ADDRESS = {"address": "Flat 804, Aparna Towers"}


def key(**changes: Any) -> str | None:
    return place_key(PropertyDetails(**(_FLAT | changes)))


@pytest.mark.parametrize(
    "changes",
    [
        {"title": "Spacious flat", "description": "Another description of it.", "amenities": ("Lift",)},
        {"location": "Kukatpalli, Hyderabad"},
        {"address": "FLAT 804 , aparna-towers, Kukatpally, Hyderabad"},
        {"price": 9_000_000},
        {"latitude": 17.49, "longitude": 78.39},
    ],
)
def test_same_flat_with_an_address_has_the_same_key(changes: dict[str, Any]) -> None:
    assert key(**(_ADDRESS | changes)) == key(**_ADDRESS)


@pytest.mark.parametrize(
    "changes",
    [
        {"address": "Flat 805, Aparna Towers"},
        {"location": "Miyapur"},
        {"floor_number": 8},
        {"bedrooms": 2},
        {"area_sqft": 1_550},
        {"property_type": "VILLA"},
        {"listing_type": "RENT", "price": 30_000},
        {"city": "Warangal"},
    ],
)
def test_another_flat_has_another_key(changes: dict[str, Any]) -> None:
    assert key(**(_ADDRESS | changes)) != key(**_ADDRESS)


def test_without_an_address_also_price_and_point_are_the_same() -> None:
    assert key(latitude=17.49, longitude=78.39) == key(latitude=17.490004, longitude=78.390004)
    assert key(price=9_000_000) != key()
    assert key(latitude=17.49, longitude=78.39) != key(latitude=17.50, longitude=78.39)


def test_address_that_only_repeats_the_locality_is_none() -> None:
    assert key(address="Kukatpally, Hyderabad, Telangana") == key()


@pytest.mark.parametrize("changes", [{"area_sqft": None}, {"bedrooms": None}])
def test_flat_without_address_area_or_rooms_is_like_no_other(changes: dict[str, Any]) -> None:
    assert key(**changes) is None


def test_plot_needs_no_rooms() -> None:
    assert key(property_type="PLOT", bedrooms=None) is not None


@pytest.mark.skipif(not DATA.exists(), reason="the real listings of ../shared/data are not on this machine")
@pytest.mark.parametrize(
    ("file", "defaults", "exact", "by_key"),
    [
        ("listings_sale_amenities.csv", {"listingType": "SALE", "propertyType": "APARTMENT"}, 520, 725),
        ("listings_sale_geo.csv", {"listingType": "SALE"}, 1, 26),
        ("listings_rent.csv", {"propertyType": "APARTMENT"}, 0, 4),
    ],
)
def test_every_exact_duplicate_of_the_real_files_is_found(
    file: str, defaults: dict[str, Any], exact: int, by_key: int
) -> None:
    with (DATA / file).open(encoding="utf-8", newline="") as source:
        rows = list(csv.DictReader(source))
    mapping = ImportMapping(columns=guess(list(rows[0])), defaults=defaults)
    keys: set[str | None] = set()
    texts: set[tuple[str, ...]] = set()
    found = repeated = 0
    for row in rows:
        try:
            place = place_key(read_row(row, mapping).details)
        except RowRefused:
            continue
        text = tuple(row.values())
        assert place in keys or text not in texts
        found += place in keys
        repeated += text in texts
        keys.add(place)
        texts.add(text)

    assert repeated == exact
    assert found == by_key
