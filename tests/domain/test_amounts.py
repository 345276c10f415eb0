"""Amounts and areas as India writes them."""

import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.amounts import rupees, short_rupees, square_feet

AMOUNTS = st.integers(min_value=-(10**13), max_value=10**13)
UNITS = {"K": 10**3, "L": 10**5, "Cr": 10**7}
SHORT = re.compile(r"(-?)₹([0-9,]+(?:\.[0-9]{1,2})?)(?: (K|L|Cr))?")


@pytest.mark.parametrize(
    ("amount", "written"),
    [
        (0, "₹0"),
        (999, "₹999"),
        (1_000, "₹1,000"),
        (25_000, "₹25,000"),
        (1_00_000, "₹1,00,000"),
        (8_500_000, "₹85,00,000"),
        (1_19_00_000, "₹1,19,00,000"),
        (10**12, "₹10,00,00,00,00,000"),
        (-250_000, "-₹2,50,000"),
    ],
)
def test_rupees_are_grouped_by_three_then_by_two(amount: int, written: str) -> None:
    assert rupees(amount) == written


@pytest.mark.parametrize(
    ("amount", "written"),
    [
        (999, "₹999"),
        (1_000, "₹1 K"),
        (25_000, "₹25 K"),
        (99_999, "₹99,999"),
        (1_00_000, "₹1 L"),
        (8_500_000, "₹85 L"),
        (8_550_000, "₹85.5 L"),
        (99_99_999, "₹99,99,999"),
        (1_00_00_000, "₹1 Cr"),
        (1_19_00_000, "₹1.19 Cr"),
        (1_19_50_000, "₹1,19,50,000"),
        (1_19_99_999, "₹1,19,99,999"),
        (10**12, "₹1,00,000 Cr"),
    ],
)
def test_short_rupees_have_at_most_two_decimals_and_are_exact(amount: int, written: str) -> None:
    assert short_rupees(amount) == written


@given(AMOUNTS)
def test_rupees_contain_every_digit(amount: int) -> None:
    assert int(rupees(amount).replace("₹", "").replace(",", "")) == amount
    assert re.fullmatch(r"-?₹(?:[0-9]{1,3}|[0-9]{1,2}(?:,[0-9]{2})*,[0-9]{3})", rupees(amount))


@given(AMOUNTS | st.integers(-(10**5), 10**5).map(lambda lakhs: lakhs * 10**5))
def test_short_rupees_are_exactly_the_amount(amount: int) -> None:
    form = SHORT.fullmatch(short_rupees(amount))
    assert form is not None
    sign, number, unit = form.groups()

    assert (sign == "-") == (amount < 0)
    assert Decimal(number.replace(",", "")) * UNITS.get(unit, 1) == abs(amount)
    assert unit == "Cr" or unit is None or Decimal(number) < 100


@pytest.mark.parametrize(("area", "written"), [(1, "1 sq ft"), (1_800, "1,800 sq ft"), (435_600, "4,35,600 sq ft")])
def test_areas_are_grouped_as_amounts(area: int, written: str) -> None:
    assert square_feet(area) == written
