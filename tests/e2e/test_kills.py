"""Killed processes restart, and no acknowledged command is lost."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import httpx
import pytest

from tests.api.test_erasure import erase, erased
from tests.platform import Person, Platform, until


async def _history_is(platform: Platform, person: Person, expected: set[str]) -> bool:
    """Whether the history has each of these properties exactly once."""
    try:
        entries = await platform.history(person)
    except (httpx.TransportError, AssertionError):
        return False
    listed = [entry["activityData"]["propertyId"] for entry in entries if entry["activityType"] == "PROPERTY_CREATED"]
    return sorted(listed) == sorted(expected)


async def _is_ready(platform: Platform) -> bool:
    try:
        return bool((await platform.http.get("/readyz")).json()["status"] == "ready")
    except httpx.TransportError:
        return False


@pytest.mark.temporal
async def test_worker_killed_between_saving_and_publishing_loses_nothing(platform: Platform) -> None:
    """The broker is suspended, so the property is saved but not published when the worker dies."""
    person = await platform.register()
    broker, worker = platform.stack.processes["kafka"].pid, platform.stack.processes["worker"].pid
    assert broker
    assert worker
    os.kill(broker, signal.SIGSTOP)
    try:
        created = await platform.create(person)
        os.kill(worker, signal.SIGKILL)
    finally:
        os.kill(broker, signal.SIGCONT)

    assert created.status_code in {201, 202}

    async def published() -> bool:
        state = await platform.http.get(f"/api/commands/{created.headers['command-id']}", headers=person.headers)
        stages = {stage["name"]: stage["status"] for stage in state.json().get("stages", [])}
        return stages.get("published") == stages.get("notified") == "DONE"

    # An activity of the dead worker, such as one that sends the mails, is taken up after its minute.
    await until(published, seconds=240)
    state = await platform.http.get(f"/api/commands/{created.headers['command-id']}", headers=person.headers)
    listed = state.json()["result"]["aggregateId"]
    await until(lambda: _history_is(platform, person, {listed}), seconds=60)
    events = (await platform.http.get(f"/api/properties/{listed}/history", headers=person.headers)).json()["items"]
    assert len(events) == 1
    await until(lambda: _is_ready(platform), seconds=60)


@pytest.mark.temporal
async def test_erasure_goes_on_after_its_worker_is_killed(platform: Platform) -> None:
    person = await platform.register()
    await platform.create(person)
    location = (await erase(platform, person)).headers["location"]
    worker = platform.stack.processes["worker"].pid
    assert worker

    async def deleting() -> bool:
        stages = (await platform.http.get(location)).json()["stages"]
        return {"name": "deleted", "status": "PENDING", "at": None} in stages and stages[2]["status"] == "DONE"

    await until(deleting)
    os.kill(worker, signal.SIGKILL)

    # The steps of a dead worker are taken up when their heartbeats have been missing for 20 s.
    state = await erased(platform, location, seconds=240)
    assert state["status"] == "COMPLETED"
    await until(lambda: _is_ready(platform), seconds=60)


@asynccontextmanager
async def load(platform: Platform, person: Person) -> AsyncIterator[dict[str, str]]:
    """A light load of creates; yields the acknowledged ones: command id to property id (empty for 202)."""
    acknowledged: dict[str, str] = {}
    stop = asyncio.Event()

    async def creating() -> None:
        while not stop.is_set():
            try:
                answer = await platform.create(person)
            except httpx.TransportError:
                await asyncio.sleep(0.1)
                continue
            if answer.status_code in {201, 202}:
                acknowledged[answer.headers["command-id"]] = answer.json().get("id", "")
            else:
                assert answer.status_code == 503, answer.text
                await asyncio.sleep(0.1)

    load = [asyncio.create_task(creating()) for _ in range(3)]
    try:
        yield acknowledged
    finally:
        stop.set()
        await asyncio.gather(*load)


@pytest.mark.parametrize(
    "victim",
    [
        "worker",
        "projections",
        "api",
        "kafka",
        "redis",
        pytest.param("temporal", marks=pytest.mark.temporal),
        "mailbox",
        "s3",
    ],
)
async def test_process_killed_under_load_loses_no_acknowledged_command(platform: Platform, victim: str) -> None:
    person = await platform.register()
    process = platform.stack.processes[victim]
    pid = process.pid
    assert pid

    async with load(platform, person) as acknowledged:
        await until(lambda: _more_than(acknowledged, 5))
        os.kill(pid, signal.SIGKILL)
        await until(lambda: _is_another(platform, victim, pid))
        await until(lambda: _is_ready(platform), seconds=60)
        after = len(acknowledged)
        await until(lambda: _more_than(acknowledged, after + 5), seconds=60)

    properties: set[str] = set()
    for command_id, property_id in acknowledged.items():

        async def completed(command_id: str = command_id) -> str:
            state = (await platform.http.get(f"/api/commands/{command_id}", headers=person.headers)).json()
            return str(state["result"]["aggregateId"]) if state.get("status") == "COMPLETED" else ""

        saved = await until(completed, seconds=60)
        assert property_id in {"", saved}
        properties.add(saved)
    for command_id in acknowledged:
        # A mail whose sender was killed is claimed again after half a minute.
        await until(partial(_everything_is_done, platform, person, command_id), seconds=90)
    # Commands whose answer was lost on its way are done as well: the history may have them, acknowledged or not.
    await until(lambda: _history_has(platform, person, properties), seconds=60)
    await until(platform.is_up, seconds=60)  # for the tests that follow


async def _everything_is_done(platform: Platform, person: Person, command_id: str) -> bool:
    state = (await platform.http.get(f"/api/commands/{command_id}", headers=person.headers)).json()
    return [stage["status"] for stage in state.get("stages", [])] == ["DONE"] * 3


async def _more_than(acknowledged: dict[str, str], count: int) -> bool:
    return len(acknowledged) > count


async def _is_another(platform: Platform, name: str, pid: int) -> bool:
    return platform.stack.processes[name].pid not in {None, pid}


async def _history_has(platform: Platform, person: Person, expected: set[str]) -> bool:
    entries: list[str] = []
    cursor: str | None = None
    while True:
        page = await platform.http.get(
            f"/api/user-history/{person.id}",
            params={"limit": 100, **({"cursor": cursor} if cursor else {})},
            headers=person.headers,
        )
        if page.status_code != 200:
            return False
        entries += [entry["activityData"].get("propertyId", "") for entry in page.json()["items"]]
        cursor = page.json()["nextCursor"]
        if cursor is None:
            break
    assert len(entries) == len(set(entries)), "an entry is there twice"
    return expected <= set(entries)


async def test_stalled_consumer_is_recreated(platform: Platform) -> None:
    """The broker is suspended without closing connections: no call fails, and no message comes."""
    person = await platform.register()
    heard = (await platform.create(person)).json()["id"]
    await until(lambda: _history_is(platform, person, {heard}), seconds=60)
    broker = platform.stack.processes["kafka"].pid
    assert broker
    recreated = await _recreated(platform)
    os.kill(broker, signal.SIGSTOP)
    try:

        async def noticed() -> bool:
            return await _recreated(platform) > recreated

        await until(noticed, seconds=60)
    finally:
        os.kill(broker, signal.SIGCONT)

    created = await platform.create(person)

    listed = created.json()["id"]
    await until(lambda: _history_is(platform, person, {heard, listed}), seconds=60)


async def _recreated(platform: Platform) -> float:
    async with httpx.AsyncClient(trust_env=False) as http:
        metrics = (await http.get(f"http://127.0.0.1:{platform.stack.ports['projections_ops']}/metrics")).text
    lines = [line for line in metrics.splitlines() if line.startswith("projection_consumers_recreated_total{")]
    return sum(float(line.rpartition(" ")[2]) for line in lines)
