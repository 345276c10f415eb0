"""Amounts and areas as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.amounts import rupees, short_rupees
from domain.quantities import AREA, MONEY, Meaning, read_amount, read_area
from domain.tokens import Tokens


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("85 L", 8_500_000),
        ("85lakhs", 8_500_000),
        ("1.2 Cr", 12_000_000),
        ("₹75 Lac", 7_500_000),
        ("Rs 1,20,00,000", 12_000_000),
        ("Rs. 45,00,000/-", 4_500_000),
        ("25 K", 25_000),
        ("25k", 25_000),
        ("two crores", 20_000_000),
        ("1 crore 20 lakhs", 12_000_000),
        ("INR 8500000 only", 8_500_000),
        ("0.75 cr", 7_500_000),
        ("5.20 K/sq.ft", None),
        ("Price on request", None),
        ("under 1 cr", None),
        ("", None),
    ],
)
def test_amount_is_read(text: str, amount: int | None) -> None:
    assert read_amount(text) == amount


@given(st.integers(min_value=0, max_value=10**13))
def test_an_exact_amount_is_read_back(amount: int) -> None:
    assert read_amount(rupees(amount)) == amount


@given(st.integers(min_value=0, max_value=10**13))
def test_a_short_amount_is_read_back_as_far_as_it_is_written(amount: int) -> None:
    read = read_amount(short_rupees(amount))
    assert read is not None
    assert short_rupees(read) == short_rupees(amount)
    assert abs(read - amount) <= max(amount // 100, 1)


@pytest.mark.parametrize(
    ("text", "area"),
    [
        ("200 sq.yd", 1_800),
        ("200.00 sq. yds.", 1_800),
        ("150 gaj", 1_350),
        ("2 acres", 87_120),
        ("half acre", 21_780),
        ("5 guntas", 5_445),
        ("1200 sft", 1_200),
        ("sqft 1200", 1_200),
        ("per sqft 1200", None),
        ("1,200 Sq. Ft.", 1_200),
        ("1200", 1_200),
        ("110 sq m", 1_184),
        ("100 square meters", 1_076),
        ("1 hectare", 107_639),
        ("some acres", None),
    ],
)
def test_area_is_read_in_square_feet(text: str, area: int | None) -> None:
    assert read_area(text) == area


@pytest.mark.parametrize(
    ("text", "bounds"),
    [
        ("₹75 Lac - ₹1.19 Cr", (7_500_000, 11_900_000)),
        ("1-2 cr", (10_000_000, 20_000_000)),
        ("between 60 and 80 lakhs", (6_000_000, 8_000_000)),
        ("60 to 80L", (6_000_000, 8_000_000)),
        ("80 - 1.2 cr", (8_000_000, 12_000_000)),
        ("20000 to 30000", (20_000, 30_000)),
        ("2 cr - 1 cr", None),
    ],
)
def test_range_of_amounts_is_read(text: str, bounds: tuple[int, int] | None) -> None:
    assert MONEY.read_range(text) == bounds


def test_range_of_areas_is_read() -> None:
    assert AREA.read_range("200.00 sq.yd. - 400.00 sq.yd.") == (1_800, 3_600)


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("under 1 cr", Meaning.AT_MOST),
        ("budget of rs 80 lakhs", Meaning.AT_MOST),
        ("80 lakhs or less", Meaning.AT_MOST),
        ("not more than 80 lakhs", Meaning.AT_MOST),
        ("above 50 lakhs", Meaning.AT_LEAST),
        ("50 lakhs+", Meaning.AT_LEAST),
        ("50 lakhs onwards", Meaning.AT_LEAST),
        ("not less than 50 lakhs", Meaning.AT_LEAST),
        ("around 50 lakhs", Meaning.ABOUT),
        ("50 lakhs", Meaning.EXACTLY),
        ("50 to 60 lakhs", Meaning.BETWEEN),
    ],
)
def test_words_around_an_amount_say_what_is_asked(text: str, meaning: Meaning) -> None:
    (found,) = MONEY.quantities(Tokens.of(text).line)
    assert found.meaning is meaning
    assert (found.start, found.end) == (0, len(Tokens.of(text).line))
