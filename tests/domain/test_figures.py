"""Prices, areas, rooms and floors of spreadsheets: certain, not stated, or refused with their readings."""

import csv
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from domain.amounts import rupees, short_rupees, square_feet
from domain.figures import (
    Rooms,
    Unclear,
    is_rate,
    is_stated,
    read_area,
    read_count,
    read_floor,
    read_price,
    read_rooms,
)

DATA = Path("../shared/data")
needs_data = pytest.mark.skipif(not DATA.exists(), reason="the real listings of ../shared/data are not on this machine")


@pytest.mark.parametrize(
    ("text", "price"),
    [
        ("85 L", 8_500_000),
        ("85lakhs", 8_500_000),
        ("1.2 Cr", 12_000_000),
        ("₹75 Lac", 7_500_000),
        ("Rs 1,20,00,000", 12_000_000),
        ("Rs. 45,00,000/-", 4_500_000),
        ("Rs.85L", 8_500_000),
        ("25 K", 25_000),
        ("1 crore 20 lakhs", 12_000_000),
        ("1 Cr 5 L", 10_500_000),
        ("INR 85 lacs only", 8_500_000),
        ("85 L (Negotiable)", 8_500_000),
        ("12,000,000", 12_000_000),
        ("8500000", 8_500_000),
        ("8500000.0", 8_500_000),
        ("11399999.999999998", 11_400_000),
        ("85\u00a0L", 8_500_000),
        ("\uff18\uff15\u3000\uff2c", 8_500_000),
        ("८५ lakh", 8_500_000),
        ("₹25,000", 25_000),
        ("500 rupees only", 500),
        ("1.200 Cr", 12_000_000),
    ],
)
def test_price_is_read(text: str, price: int) -> None:
    assert read_price(text) == price


@pytest.mark.parametrize("text", ["", " ", "-", "--", "N/A", "n.a.", "NULL", "nan", "Price on request", "(On Request)"])
def test_cell_that_states_nothing_is_no_error(text: str) -> None:
    assert not is_stated(text)
    assert (read_price(text), read_area(text), read_rooms(text), read_count(text)) == (None, None, None, None)
    assert read_floor(text) == (None, None)


@pytest.mark.parametrize(
    ("text", "readings"),
    [
        ("85", ("₹85", "₹85 L", "₹85 Cr")),
        ("₹85", ("₹85", "₹85 L", "₹85 Cr")),
        ("850", ("₹850", "₹8.5 Cr")),
        ("25000", ("₹25 K", "₹2.5 Cr")),
        ("1,20", ("₹1.2", "₹120")),
        ("1,20 Cr", ("₹1.2 Cr", "₹120 Cr")),
        ("1.200", ("₹1.2 K", "₹1.2")),
        ("1.200.000", ("₹12 L",)),
        ("12.00.000", ("₹12 L",)),
        ("1 20 00 000", ("₹1.2 Cr",)),
        ("1.2E+07", ("₹1.2 Cr",)),
        ("₹75 Lac - ₹1.19 Cr", ("₹75 L", "₹1.19 Cr")),
        ("85-90 lakhs", ("₹85 L", "₹90 L")),
        ("85 L onwards", ("₹85 L",)),
        ("approx 85 L", ("₹85 L",)),
        ("20 lakhs 1 crore", ("₹20 L", "₹1 Cr")),
        ("85,00,000.50", ("₹85,00,000", "₹85,00,001")),
        ("25,000/month", ()),
        ("-85 L", ("₹85 L",)),
        ("$120000", ()),
        ("5.20 K/sq.ft", ()),
        ("9" * 30, ()),
        ("Ask Ravi", ()),
    ],
)
def test_unclear_price_of_a_sale_is_refused_with_its_readings(text: str, readings: tuple[str, ...]) -> None:
    with pytest.raises(Unclear) as refused:
        read_price(text)

    assert refused.value.readings == readings
    assert all(reading in str(refused.value) for reading in readings)


@pytest.mark.parametrize(
    ("text", "rent"),
    [("25 K", 25_000), ("1200", 1_200), ("25000", 25_000), ("25,000/month", 25_000), ("Rs 25,000 p.m.", 25_000)],
)
def test_rent_is_read(text: str, rent: int) -> None:
    assert read_price(text, sale=False) == rent


@pytest.mark.parametrize(
    ("text", "readings"),
    [("25", ("₹25", "₹25 K")), ("1.2", ("₹1.2", "₹1.2 K", "₹1.2 L")), ("10-12 K", ("₹10 K", "₹12 K"))],
)
def test_unclear_rent_is_refused_with_its_readings(text: str, readings: tuple[str, ...]) -> None:
    with pytest.raises(Unclear) as refused:
        read_price(text, sale=False)

    assert refused.value.readings == readings


def test_unit_of_the_header_is_that_of_numbers_without_one() -> None:
    assert read_price("85", unit="lakhs") == 8_500_000
    assert read_price("1.2", unit="crores") == 12_000_000
    assert read_price("1.2 Cr", unit="lakhs") == 12_000_000
    assert read_price("Rs 85,00,000/-", unit="lakhs") == 8_500_000
    assert read_area("200", unit="sq yd", plot=True) == 1_800


def test_whole_rupees_below_a_header_that_says_lakhs_are_refused() -> None:
    with pytest.raises(Unclear) as refused:
        read_price("8500000", unit="lakhs")

    assert refused.value.readings == ("₹85 L", "₹85,000 Cr")


@pytest.mark.parametrize(
    ("text", "area_sqft", "price"),
    [
        ("5.20 K/sq.ft", 1_125, 5_850_000),
        ("25.00 K/sq.yd", 1_800, 5_000_000),
        ("Rs 5,200 per sq ft", 1_000, 5_200_000),
        ("7.00 K/sq.ft", 2_300, 16_100_000),
    ],
)
def test_rate_is_a_price_where_the_area_is_known(text: str, area_sqft: int, price: int) -> None:
    assert is_rate(text)
    assert read_price(text, area_sqft=area_sqft) == price


@pytest.mark.parametrize(
    ("text", "area"),
    [
        ("200 sq.yd", 1_800),
        ("200.00 sq. yds.", 1_800),
        ("300 SQYDS", 2_700),
        ("2 acres", 87_120),
        ("1 acre 20 guntas", 65_340),
        ("5 guntas", 5_445),
        ("150 gaj", 1_350),
        ("1200 sft", 1_200),
        ("Sq.Ft. 1200", 1_200),
        ("1,200 Sq. Ft.", 1_200),
        ("1200 sq-ft (super area)", 1_200),
        ("110 sq m", 1_184),
        ("110 m\u00b2", 1_184),
        ("1 hectare", 107_639),
        ("1200", 1_200),
        ("1250.000", 1_250),
        ("1143.0", 1_143),
    ],
)
def test_area_is_read_in_square_feet(text: str, area: int) -> None:
    assert read_area(text) == area


@pytest.mark.parametrize(
    ("text", "readings"),
    [
        ("200.00 sq.yd. - 400.00 sq.yd.", ("1,800 sq ft", "3,600 sq ft")),
        ("1.200", ("1200 sq ft", "1.2 sq ft")),
        ("1,20 sq yd", ("11 sq ft", "1,080 sq ft")),
        ("upto 1200 sft", ("1,200 sq ft",)),
        ("1 ankanam", ()),
    ],
)
def test_unclear_area_is_refused_with_its_readings(text: str, readings: tuple[str, ...]) -> None:
    with pytest.raises(Unclear) as refused:
        read_area(text)

    assert refused.value.readings == readings


def test_area_of_a_plot_needs_its_unit() -> None:
    assert read_area("200 sq.yd", plot=True) == 1_800
    with pytest.raises(Unclear) as refused:
        read_area("200", plot=True)
    assert refused.value.readings == ("200 sq ft", "200 sq yd")


@pytest.mark.parametrize(
    ("text", "rooms"),
    [
        ("3BHK+study", Rooms(3, ("Study",))),
        ("3 BHK + servant room + pooja", Rooms(3, ("Servant room", "Pooja room"))),
        ("3 BHK", Rooms(3)),
        ("3", Rooms(3)),
        ("2.0", Rooms(2)),
        ("Three BHK", Rooms(3)),
        ("2 BHK Apartment", Rooms(2, (), "apartment")),
        ("1 RK", Rooms(0)),
        ("Studio", Rooms(0, (), "studio")),
    ],
)
def test_rooms_are_read(text: str, rooms: Rooms) -> None:
    assert read_rooms(text) == rooms


@pytest.mark.parametrize(
    ("text", "readings"),
    [
        ("2, 3 BHK Apartments", ("2 BHK", "3 BHK")),
        ("2.5 BHK", ("2 BHK + study", "3 BHK")),
        ("3+1", ("3 BHK", "4 BHK")),
        ("4+ BHK", ("4 BHK",)),
        (" BHK ,", ()),
    ],
)
def test_unclear_rooms_are_refused_with_their_readings(text: str, readings: tuple[str, ...]) -> None:
    with pytest.raises(Unclear) as refused:
        read_rooms(text)

    assert refused.value.readings == readings


@pytest.mark.parametrize(
    ("text", "floor"),
    [
        ("3 out of 4", (3, 4)),
        ("Ground out of 4", (0, 4)),
        ("Upper Basement out of 2", (-1, 2)),
        ("Lower Basement out of 2", (-2, 2)),
        ("3/4", (3, 4)),
        ("3rd floor", (3, None)),
        ("12th of 14 floors", (12, 14)),
        ("2.0", (2, None)),
        ("-1", (-1, None)),
    ],
)
def test_floor_is_read(text: str, floor: tuple[int | None, int | None]) -> None:
    assert read_floor(text) == floor


@pytest.mark.parametrize("text", ["G+3", "3-4", "Top", "Terrace out of 4", "2.5"])
def test_unclear_floor_is_refused(text: str) -> None:
    with pytest.raises(Unclear):
        read_floor(text)


@pytest.mark.parametrize(
    ("text", "count"), [("2", 2), ("2.0", 2), ("2 covered", 2), ("5 years old", 5), ("203.0", 203)]
)
def test_count_is_read(text: str, count: int) -> None:
    assert read_count(text) == count


@pytest.mark.parametrize(("text", "readings"), [("0-5 years", ("0", "5")), ("2+", ("2",)), ("2.5", ()), ("yes", ())])
def test_unclear_count_is_refused_with_its_readings(text: str, readings: tuple[str, ...]) -> None:
    with pytest.raises(Unclear) as refused:
        read_count(text)

    assert refused.value.readings == readings


@given(st.integers(1, 10**12))
@example(99_99_999)
@example(1_19_50_000)
def test_written_prices_are_read_back(amount: int) -> None:
    if amount >= 1_000:  # a smaller one looks like lakhs or crores without their unit
        assert read_price(rupees(amount)) == amount
        assert read_price(short_rupees(amount)) == amount
    assert read_price(f"{rupees(amount)}/-") == amount


@given(st.integers(1, 10**8))
def test_written_areas_are_read_back(area: int) -> None:
    assert read_area(square_feet(area)) == area
    assert read_area(square_feet(area), plot=True) == area


@given(st.integers(1, 9_999))
def test_units_agree_with_each_other(number: int) -> None:
    assert read_price(f"{number} Cr") == read_price(f"{number * 100} L") == read_price(f"{number * 10_000} K")
    assert read_area(f"{number} acres") == read_area(f"{number * 40} guntas") == read_area(f"{number * 4840} sq yd")
    assert read_area(f"{number} sq.yd.") == read_area(f"{number} gaj") == read_area(f"{number * 9} sft")
    assert read_area(f"{number} hectares") == read_area(f"{number * 10_000} sq m")


_CELLS = st.text(max_size=30) | st.lists(
    st.sampled_from(
        ["1", "85", ".", ",", " ", "L", "Cr", "₹", "Rs", "-", "/", "+", "sq.ft", "K", "BHK", "out of", "e5"]
    ),
    max_size=12,
).map("".join)


@given(_CELLS)
@example("9" * 5_000)
@example("1" + " BHK" * 500)
def test_any_text_is_read_or_refused(text: str) -> None:
    for read in (read_price, read_area, read_rooms, read_floor, read_count):
        with suppress(Unclear):
            read(text)


@needs_data
def test_every_price_of_the_projects_is_a_range_with_both_readings() -> None:
    with (DATA / "price_strings.csv").open(encoding="utf-8", newline="") as file:
        texts = [row["price_text"] for row in csv.DictReader(file)]
    readings = {}
    for text in texts:
        with pytest.raises(Unclear) as refused:
            read_price(text)
        readings[text] = refused.value.readings

    assert len(texts) == 20
    assert readings["₹75 Lac - ₹1.19 Cr"] == ("₹75 L", "₹1.19 Cr")
    assert readings["₹2.34 Cr - ₹2.70 Cr"] == ("₹2.34 Cr", "₹2.7 Cr")
    assert readings["₹66.5 Lac - ₹82.5 Lac"] == ("₹66.5 L", "₹82.5 L")
    assert all(len(both) == 2 for both in readings.values())


@needs_data
def test_units_of_the_projects_are_read_or_refused_as_by_hand() -> None:
    with (DATA / "projects_units.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["Flat Name"]]
    assert len(rows) == 60

    one_area = [row["Sizes"] for row in rows if _is_clear(row["Sizes"])]
    assert one_area == ["2300.00 sq.ft.", "On Request"]
    assert [row["Configurations"] for row in rows if _has_rooms(row["Configurations"])] == [
        row["Configurations"] for row in rows if row["Configurations"][:5] in ("2 BHK", "3 BHK", "4 BHK")
    ]
    assert {row["Avg. Price"] for row in rows if not is_rate(row["Avg. Price"])} == {"Price on request"}


def _is_clear(area: str) -> bool:
    try:
        read_area(area)
    except Unclear:
        return False
    return True


def _has_rooms(text: str) -> bool:
    try:
        return read_rooms(text) is not None
    except Unclear:
        return False
