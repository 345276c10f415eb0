"""Amounts and areas as people write them."""

import pytest

from domain.quantities import AREA, MONEY, Meaning
from domain.tokens import Tokens


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
