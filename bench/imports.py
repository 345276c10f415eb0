"""An import, from its file to the last entry in the history, beside the same rows by COPY into one table; and single
commands meanwhile, beside idle.
"""

import asyncio
import csv
import io
import time
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import asyncpg
import httpx

from adapters.settings import Settings
from bench.load import Latencies, Work, sequential
from demo.listings import synthetic

Row = Callable[[str, float, str, float | str], None]

_COLUMNS = ("Reference", "Title", "Description", "Price", "Locality", "Property Type", "Listing Type", "Bedrooms",
            "Bathrooms", "Area Sqft", "Floor Number", "Total Floors", "Latitude", "Longitude")  # fmt: skip
_FIELDS = ("title", "description", "price", "location", "propertyType", "listingType", "bedrooms", "bathrooms",
           "areaSqft", "floorNumber", "totalFloors", "latitude", "longitude")  # fmt: skip
_COMMANDS = 60
"""Single commands of each measurement of their latency."""
_PAUSE = 0.1
"""Seconds between them, as for the acknowledgement of commands when idle."""


def _rows(count: int) -> list[tuple[str, ...]]:
    """Rows of different listings; the last one has a title of its own."""
    run = uuid4().hex[:8]
    rows = [
        (f"{run}-{n}", *(str(listing.get(name, "")) for name in _FIELDS)) for n, listing in enumerate(synthetic(count))
    ]
    last = list(rows[-1])
    last[1] = f"The last flat of {run}"
    return [*rows[:-1], tuple(last)]


def _file(rows: list[tuple[str, ...]]) -> bytes:
    out = io.StringIO(newline="")
    csv.writer(out).writerows([_COLUMNS, *rows])
    return out.getvalue().encode()


async def measure(
    api: str, settings: Settings, user_id: str, token: str, creating: Callable[[], Work], rows: int, row: Row
) -> None:
    """Import so many rows as a user whose history is empty; `creating` makes single commands of another one."""
    made = _rows(rows)
    await sequential(creating(), 20)
    idle = await sequential(creating(), _COMMANDS, _PAUSE)
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=api, trust_env=False, timeout=60, headers=headers) as http:
        began = time.perf_counter()
        files = {"file": ("flats.csv", _file(made), "text/csv")}
        answer = (await http.post("/api/properties/import", files=files)).raise_for_status()
        visible = asyncio.create_task(_until(lambda: _is_visible(http, user_id, made[-1][1])))
        during: list[float] = []
        work = creating()
        while not visible.done():
            during += (await sequential(work, 10, _PAUSE)).sorted
        seconds = await visible - began
        done = (await http.get(answer.headers["Location"])).json()
    if done["rows"]["saved"] != rows:
        raise SystemExit(f"the import has ended with {done}")
    copied = await _copied(settings, made)
    row("import", rows / seconds, "rows/s", rows / copied)
    row("create-property-ack-during-import", Latencies(sorted(during)).ms(50), "ms p50", idle.ms(50))


async def _until(condition: Callable[[], Awaitable[bool]]) -> float:
    while not await condition():
        await asyncio.sleep(0.2)
    return time.perf_counter()


async def _is_visible(http: httpx.AsyncClient, user_id: str, title: str) -> bool:
    """Whether the entry of the last row is the newest of its type."""
    answer = await http.get(f"/api/user-history/{user_id}/activities/PROPERTY_CREATED", params={"limit": 1})
    items: list[dict[str, Any]] = answer.raise_for_status().json()["items"]
    return bool(items) and items[0]["activityData"]["title"] == title


async def _copied(settings: Settings, rows: list[tuple[str, ...]]) -> float:
    """Seconds of a COPY of the same rows into an empty table with one index."""
    connection = await asyncpg.connect(settings.database_url)
    try:
        columns = ", ".join(f'"{name}" text' for name in _COLUMNS)
        await connection.execute(f'CREATE TABLE bench_import ({columns}, PRIMARY KEY ("Reference"))')
        began = time.perf_counter()
        await connection.copy_records_to_table("bench_import", records=rows)
        return time.perf_counter() - began
    finally:
        await connection.execute("DROP TABLE IF EXISTS bench_import")
        await connection.close()
