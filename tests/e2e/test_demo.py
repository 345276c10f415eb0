"""Converting the rows of a CSV to listings, and the command line of `python -m demo`."""

import re
from pathlib import Path

import pytest

from demo.__main__ import main
from demo.listings import COLUMNS, OPTIONAL_COLUMNS, Unusable, listing_of, rows_of, synthetic
from domain.property import PropertyDetails

ROW = {
    "price": "5300000.0", "Address": "Road 3, Kondapur, Hyderabad - West, Andhra Pradesh", "area": "980.0",
    "latitude": "17.46", "longitude": "78.35", "Bedrooms": "2.0", "Bathrooms": "0.0", "parking": "402.0",
    "Furnished_status": "Semi-Furnished", "type_of_building": "Flat", "desc": "\n   good \n",
}  # fmt: skip


def test_row_becomes_a_listing() -> None:
    details = PropertyDetails.model_validate(listing_of(ROW))

    assert (details.price, details.location, details.state) == (5_300_000, "Kondapur", "Telangana")
    assert (details.bathrooms, details.parking_spaces) == (None, None)
    assert details.description.startswith("2 BHK Flat in Kondapur")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"Address": "Dwarka, New Delhi, Delhi"}, "not in Hyderabad"),
        ({"Address": "Hyderabad, Andhra Pradesh"}, "no locality"),
        ({"type_of_building": "Castle"}, "unknown type"),
        ({"price": "a lot"}, "not a number"),
    ],
)
def test_row_that_cannot_be_listed_says_why(change: dict[str, str], reason: str) -> None:
    with pytest.raises(Unusable, match=reason):
        listing_of({**ROW, **change})


def test_invented_listings_are_valid_and_always_the_same() -> None:
    first = list(synthetic(50))

    assert first == list(synthetic(50))
    assert all(PropertyDetails.model_validate(listing) for listing in first)


def test_file_of_another_shape_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "other.csv"
    file.write_text("a,b\n1,2\n")

    with pytest.raises(ValueError, match="lacks the columns price, Address") as refused:
        rows_of(file)
    for name in COLUMNS.keys() | OPTIONAL_COLUMNS.keys():
        assert f"\n  {name} " in str(refused.value)


def test_help_says_which_columns_a_file_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["demo", "--help"])

    with pytest.raises(SystemExit, match="0"):
        main()

    output = capsys.readouterr().out
    for name, what in {**COLUMNS, **OPTIONAL_COLUMNS}.items():
        assert re.search(rf"^  {name} +{re.escape(what)}", output, re.MULTILINE)


def test_api_that_does_not_answer_is_named_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["demo", "--url", "http://127.0.0.1:1"])

    assert main() == 1
    output = capsys.readouterr().err
    assert "make run" in output
    assert "make demo PORT=" in output
