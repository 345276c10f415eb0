"""Imports a CSV of listings through the public API, with a progress bar."""

import asyncio
import csv
import io
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

_POLL_SECONDS = 0.5
_DEFAULTS = {"listingType": "SALE", "propertyType": "APARTMENT", "city": "Hyderabad"}
"""For fields that a file states nowhere, as most files of portals do."""


def first_rows(file: Path, count: int | None) -> tuple[bytes, int]:
    """A file, or its header and first rows, and how many rows these are. Raises OSError or ValueError."""
    with file.open(newline="", encoding="utf-8-sig") as source:
        rows = list(csv.reader(source))
    if not rows:
        raise ValueError(f"{file.name} is empty. A CSV needs a header and rows: docs/imports.md says more.")
    some = rows[: None if count is None else count + 1]
    out = io.StringIO(newline="")
    csv.writer(out).writerows(some)
    return out.getvalue().encode(), len(some) - 1


async def import_file(
    http: httpx.AsyncClient,
    headers: Callable[[], dict[str, str]],
    name: str,
    content: bytes,
    show: Callable[[int], None],
) -> tuple[dict[str, Any], Counter[str]]:
    """Import a file and wait for its end, while `show` gets the rows that are read.

    Returns the import and the problems of its rows, counted. Raises HTTPStatusError.
    """
    answer = await http.post(
        "/api/properties/import",
        files={"file": (name, content, "text/csv")},
        data={"defaults": json.dumps(_DEFAULTS)},
        headers=headers(),
    )
    answer.raise_for_status()
    while answer.status_code == 202:  # the database or the workers are late: the command is durable
        await asyncio.sleep(_POLL_SECONDS)
        state = (await http.get(answer.headers["Location"], headers=headers())).json()
        if state["status"] == "COMPLETED":
            break
    path = f"/api/imports/{answer.headers['Command-Id']}"
    while True:
        found = await http.get(path, headers=headers())
        if found.status_code == 200:
            shown: dict[str, Any] = found.json()
            show(shown["rows"]["read"])
            if shown["finishedAt"]:
                break
        await asyncio.sleep(_POLL_SECONDS)
    report = (await http.get(f"{path}/report", headers=headers())).raise_for_status()
    lines = list(csv.DictReader(io.StringIO(report.content.decode("utf-8-sig"))))
    return shown, Counter(f"{line['field']}: {line['reason']}" for line in lines)
