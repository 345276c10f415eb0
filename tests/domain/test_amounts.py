"""Amounts as Indians write them."""

import re
from decimal import ROUND_HALF_EVEN, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.amounts import rupees, short_rupees

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
        (99_999, "₹99.99 K"),
        (1_00_000, "₹1 L"),
        (8_500_000, "₹85 L"),
        (8_550_000, "₹85.5 L"),
        (99_99_999, "₹99.99 L"),
        (1_00_00_000, "₹1 Cr"),
        (1_19_00_000, "₹1.19 Cr"),
        (1_19_50_000, "₹1.2 Cr"),  # 1.195, half to even
        (1_18_50_000, "₹1.18 Cr"),  # 1.185, half to even
        (10**12, "₹1,00,000 Cr"),
    ],
)
def test_short_rupees_have_at_most_two_decimals(amount: int, written: str) -> None:
    assert short_rupees(amount) == written


@given(AMOUNTS)
def test_rupees_contain_every_digit(amount: int) -> None:
    assert int(rupees(amount).replace("₹", "").replace(",", "")) == amount
    assert re.fullmatch(r"-?₹(?:[0-9]{1,3}|[0-9]{1,2}(?:,[0-9]{2})*,[0-9]{3})", rupees(amount))


@given(AMOUNTS)
def test_short_rupees_are_the_rounded_amount_and_below_the_next_unit(amount: int) -> None:
    form = SHORT.fullmatch(short_rupees(amount))
    assert form is not None
    sign, number, unit = form.groups()
    shown, scale = Decimal(number.replace(",", "")), UNITS.get(unit, 1)

    assert (sign == "-") == (amount < 0)
    exact = Decimal(abs(amount)) / scale
    assert exact >= 1 or unit is None
    if unit != "Cr":
        assert shown < (1000 if unit is None else 100)
    if shown != Decimal("99.99"):
        assert shown == exact.quantize(Decimal("0.01"), ROUND_HALF_EVEN)


@given(st.integers(0, 10**12), st.integers(0, 10**12))
def test_short_rupees_never_order_two_amounts_the_wrong_way(one: int, other: int) -> None:
    low, high = sorted((one, other))

    def shown(amount: int) -> Decimal:
        form = SHORT.fullmatch(short_rupees(amount))
        assert form is not None
        return Decimal(form[2].replace(",", "")) * UNITS.get(form[3], 1)

    assert shown(low) <= shown(high)
