"""The command line of `python -m demo`."""

import asyncio
import json
from pathlib import Path

import pytest

from demo.__main__ import main
from demo.listings import synthetic
from domain.property import PropertyDetails
from tests.activities.importing import csv_of, row
from tests.platform import Platform


def test_invented_listings_are_valid_and_always_the_same() -> None:
    first = list(synthetic(50))

    assert first == list(synthetic(50))
    assert all(PropertyDetails.model_validate(listing) for listing in first)


async def test_file_is_imported_with_progress_and_its_problems_are_counted(
    platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "flats.csv"
    rows = [row(n, Locality="Narsingi") for n in range(5)] + [row(5, Price="on a whim"), row(6)]
    file.write_bytes(csv_of(rows))
    monkeypatch.setattr("sys.argv", ["demo", "--url", platform.url, "--csv", str(file), "--count", "6", "--json"])

    assert await asyncio.to_thread(main) == 0

    output = capsys.readouterr()
    found = json.loads(output.out)
    assert (found["rows"], found["listed"]) == (6, 5)
    [(problem, count)] = found["refused"].items()
    assert problem.startswith("price: ")
    assert count == 1
    assert "6/6" in output.err


def test_empty_file_is_refused_with_what_to_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "empty.csv"
    file.write_text("")
    monkeypatch.setattr("sys.argv", ["demo", "--csv", str(file)])

    assert main() == 1
    assert "docs/imports.md" in capsys.readouterr().err


def test_api_that_does_not_answer_is_named_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["demo", "--url", "http://127.0.0.1:1"])

    assert main() == 1
    output = capsys.readouterr().err
    assert "make run" in output
    assert "make demo PORT=" in output
