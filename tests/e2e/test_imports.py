"""Imports while what they need dies: each row becomes one listing, and each listing one entry of the history."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, select

from adapters.postgres import Database
from adapters.tables import event_store, properties
from tests.activities.importing import csv_of, row
from tests.e2e.wiping import Wiping
from tests.platform import Person, Platform, until

ROWS = 2_000
"""Five seconds and more, so that something dies while they are read."""
SECONDS = 240
"""Longer than they take beside the suite's other processes."""
SUSPENDED_SECONDS = 10
"""Longer than a step of an import, so that the next one meets it."""


async def start(platform: Platform, agent: Person) -> str:
    files = {"file": ("flats.csv", csv_of([row(n) for n in range(ROWS)]), "text/csv")}
    answer = await platform.http.post("/api/properties/import", files=files, headers=agent.headers)
    assert answer.status_code == 201, answer.text
    return answer.headers["Location"]


async def shown(platform: Platform, agent: Person, path: str) -> dict[str, Any]:
    answer = await platform.http.get(path, headers=agent.headers)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def has_read(platform: Platform, agent: Person, path: str, rows: int) -> bool:
    return bool((await shown(platform, agent, path))["rows"]["read"] > rows)


@pytest.fixture
def wiping(platform: Platform) -> Wiping:
    return Wiping(platform.stack)


@asynccontextmanager
async def commands(platform: Platform) -> AsyncIterator[list[str]]:
    """Single commands of somebody else; yields the ids of their listings."""
    person, listed, stop = await platform.register(), list[str](), asyncio.Event()

    async def creating() -> None:
        while not stop.is_set():
            answer = await platform.create(person)
            if answer.status_code == 201:
                listed.append(answer.json()["id"])

    load = asyncio.create_task(creating())
    try:
        yield listed
    finally:
        stop.set()
        await load


async def check(platform: Platform, database: Database, agent: Person, path: str) -> None:
    """Each row is one listing with one event, and everything is in the history."""

    async def finished() -> bool:
        return bool((await shown(platform, agent, path))["finishedAt"])

    await until(finished, SECONDS)
    done = await shown(platform, agent, path)
    assert done["status"] == "COMPLETED"
    assert done["rows"] == {"read": ROWS, "saved": ROWS, "updated": 0, "unchanged": 0, "refused": 0}
    async with database.statements("hyderabad") as connection:
        owned = select(func.count(), func.count(properties.c.title.distinct()))
        rows = (await connection.execute(owned.where(properties.c.owner_id == UUID(agent.id)))).one()
        created = event_store.c.user_id == agent.id, event_store.c.event_type == "PROPERTY_CREATED"
        events = (await connection.execute(select(func.count()).where(*created))).scalar_one()
    assert (*rows, events) == (ROWS, ROWS, ROWS)

    async def in_history() -> bool:
        answer = await platform.http.get(f"/api/user-history/{agent.id}/summary", headers=agent.headers)
        return bool(answer.json()["countsByType"].get("PROPERTY_CREATED") == ROWS)

    await until(in_history, SECONDS)


async def test_worker_killed_in_a_batch_under_load_lists_each_row_once(platform: Platform, database: Database) -> None:
    agent = await platform.register(role="AGENT")
    process = platform.stack.processes["imports"]

    async with commands(platform) as listed:
        path = await start(platform, agent)
        await until(lambda: has_read(platform, agent, path, 400), SECONDS)
        assert process.pid
        os.kill(process.pid, signal.SIGKILL)
        # Its activity is taken up when its heartbeats have been missing for 15 s.
        await check(platform, database, agent, path)

    assert listed


@pytest.mark.temporal
async def test_wiped_temporal_has_an_import_go_on_where_it_was(
    platform: Platform, wiping: Wiping, database: Database
) -> None:
    agent = await platform.register(role="AGENT")
    path = await start(platform, agent)
    await until(lambda: has_read(platform, agent, path, 200), SECONDS)
    await wiping.wipe("temporal", "redis")
    await wiping.prepare_temporal()

    await check(platform, database, agent, path)


async def test_storage_and_broker_that_are_suspended_delay_an_import_and_lose_nothing(
    platform: Platform, database: Database
) -> None:
    agent = await platform.register(role="AGENT")
    stopped = [pid for name in ("s3", "kafka") if (pid := platform.stack.processes[name].pid)]
    path = await start(platform, agent)
    await until(lambda: has_read(platform, agent, path, 200), SECONDS)
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(SUSPENDED_SECONDS)
        assert (await shown(platform, agent, path))["status"] in {"RUNNING", "COMPLETED"}
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)

    await check(platform, database, agent, path)
