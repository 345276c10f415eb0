"""Ten thousand rows of real listings through the API, with hand-picked cases of what is refused."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from tests.platform import Person, Platform, until

DATA = Path("../shared/data")
DEFAULTS = {
    "listings_sale_geo": {"listingType": "SALE"},
    "listings_sale_amenities": {"listingType": "SALE", "propertyType": "APARTMENT"},
    "listings_rent": {"listingType": "RENT", "propertyType": "APARTMENT"},
}
REFUSED = {
    "listings_sale_geo": {
        (856, "parkingSpaces", "306.0"),  # a flat number in the wrong column
        (5323, "bathrooms", "0.0"),  # nobody has asked
        (9840, "location", "Hyderabad, Andhra Pradesh"),  # no locality
    },
    "listings_sale_amenities": {(2190, "location", "hyderabad")},
    "listings_rent": {(198, "location", "Hyderabad")},
}
"""Line, field and value of some rows that must be refused."""


async def imported(platform: Platform, agent: Person, name: str) -> dict[str, Any]:
    files = {"file": (f"{name}.csv", (DATA / f"{name}.csv").read_bytes(), "text/csv")}
    form = {"defaults": json.dumps(DEFAULTS[name])}
    answer = await platform.http.post("/api/properties/import", files=files, data=form, headers=agent.headers)
    assert answer.status_code == 201, answer.text

    async def finished() -> dict[str, Any]:
        found: dict[str, Any] = (await platform.http.get(answer.headers["Location"], headers=agent.headers)).json()
        return found if found["finishedAt"] else {}

    return await until(finished, seconds=300)


@pytest.mark.skipif(not DATA.exists(), reason="the real listings of ../shared/data are not on this machine")
async def test_ten_thousand_real_rows_are_listed_or_refused_for_what_is_wrong_with_them(platform: Platform) -> None:
    agent = await platform.register(role="AGENT")
    saved = read = 0
    for name in DEFAULTS:
        done = await imported(platform, agent, name)
        rows = done["rows"]
        assert done["status"] == "COMPLETED"
        assert rows["read"] == rows["saved"] + rows["refused"]
        assert rows["saved"] >= 0.97 * rows["read"]
        report = await platform.http.get(f"/api/imports/{done['id']}/report", headers=agent.headers)
        lines = list(csv.DictReader(io.StringIO(report.content.decode("utf-8-sig"))))
        assert {(int(line["line"]), line["field"], line["value"]) for line in lines} >= REFUSED[name]
        saved, read = saved + rows["saved"], read + rows["read"]
    again = (await imported(platform, agent, "listings_sale_amenities"))["rows"]
    assert again["unchanged"] == again["read"] - again["refused"]
    assert read + again["read"] > 10_000

    async def in_history() -> bool:
        summary = await platform.http.get(f"/api/user-history/{agent.id}/summary", headers=agent.headers)
        return bool(summary.json()["countsByType"].get("PROPERTY_CREATED") == saved)

    await until(in_history, seconds=300)
