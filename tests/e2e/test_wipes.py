"""Wiping everything but Postgres under load: every acknowledged command is eventually there, exactly once."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from google.protobuf.duration_pb2 import Duration
from sqlalchemy import ColumnElement, select
from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest
from temporalio.client import Client

from adapters import temporal
from adapters.postgres import Database
from adapters.settings import Settings
from adapters.tables import event_store, properties
from embedded import engines
from embedded.paths import ROOT, Ports
from embedded.process import Process, Spec
from embedded.stack import Stack
from tests.e2e.reader import Reader, made_up_place
from tests.e2e.wiping import Wiping, delete, restart_empty
from tests.platform import Person, Platform, until
from tests.streams import events, ticket
from workflows import options


@pytest.fixture
def wiping(platform: Platform) -> Wiping:
    return Wiping(platform.stack)


@asynccontextmanager
async def _creating(platform: Platform, person: Person, place: str) -> AsyncIterator[set[str]]:
    """A load of creates in a place; yields the ids of properties that were answered 201."""
    acknowledged: set[str] = set()
    stop = asyncio.Event()

    async def create() -> None:
        while not stop.is_set():
            try:
                answer = await platform.create(person, location=place)
            except httpx.TransportError:
                continue
            assert answer.status_code in {201, 202, 503}, answer.text
            if answer.status_code == 201:
                acknowledged.add(answer.json()["id"])

    load = [asyncio.create_task(create()) for _ in range(3)]
    try:
        yield acknowledged
    finally:
        stop.set()
        await asyncio.gather(*load)


@pytest.mark.temporal
async def test_kafka_redis_and_temporal_wiped_together_under_load_lose_no_acknowledged_command(
    platform: Platform, wiping: Wiping, database: Database, all_tenants: Database
) -> None:
    """And every read model is right again by itself. Acknowledged is what was answered 201: it is in Postgres. A 202
    says that the command is durable in Temporal, so a wiped Temporal loses those that were not saved yet.
    """
    person, place, http = await platform.register(), made_up_place(), platform.http
    reader = Reader(platform, database, all_tenants, person, await platform.register(), place)
    await reader.begin()
    wiped = ["kafka", "redis", "temporal", *({"opensearch"} & platform.stack.processes.keys())]
    running = {name: platform.stack.processes[name].pid for name in ("worker", "projections", "api")}
    async with events(http, await ticket(http, reader.person), property=reader.favorite) as stream:
        async with _creating(platform, person, place) as acknowledged:
            for _ in range(3):
                await until(_more(acknowledged), seconds=120)
                await reader.act()
                await wiping.wipe(*wiped)
                await wiping.prepare_temporal()
            await until(_more(acknowledged), seconds=120)
            await reader.act()
        rows = await _column(all_tenants, properties.c.property_id, properties.c.owner_id == UUID(person.id))
        await reader.check(set(map(str, rows)), stream)

    created = event_store.c.user_id == person.id, event_store.c.event_type == "PROPERTY_CREATED"
    aggregates = await _column(all_tenants, event_store.c.aggregate_id, *created)
    event_ids = await _column(all_tenants, event_store.c.event_id, *created)
    assert acknowledged <= set(map(str, rows))
    assert sorted(aggregates) == sorted(map(str, rows))

    async def history_is_whole() -> bool:
        return sorted(await _listed_in_history(platform, person)) == sorted(aggregates)

    async def everything_is_counted() -> bool:
        profile = (await platform.http.get("/api/users/profile", headers=person.headers)).json()
        return bool(profile["propertyCount"] == len(aggregates))

    async def everything_is_mailed_under_its_id() -> bool:
        # The mailbox keeps one mail for each Message-ID: with another id, a repetition would be one too many.
        parameters: dict[str, str] = {"to": person.email}
        ids: list[str] = []
        while page := (await platform.mailbox.get("/api/messages", params=parameters)).json():
            ids += [str(mail["messageId"]).strip("<>") for mail in page]
            parameters["before"] = page[-1]["id"]
        expected = {f"{event_id}.{person.id}@hyderabad-infra" for event_id in event_ids}
        # One more is the mail that verifies the address.
        return expected < set(ids) and len(ids) == len(expected) + 1

    await until(history_is_whole, seconds=120)
    await until(everything_is_counted, seconds=120)
    await until(everything_is_mailed_under_its_id, seconds=120)
    assert {name: platform.stack.processes[name].pid for name in running} == running


async def test_entry_acknowledged_before_a_restart_is_visible_once_the_platform_is_ready(
    platform: Platform, wiping: Wiping
) -> None:
    """The broker comes back empty, projections and API restart, and the workers stand still: only the event store has
    the entry.
    """
    person = await platform.register()
    await until(lambda: platform.history(person))
    worker, projections = (platform.stack.processes[name] for name in ("worker", "projections"))
    assert worker.pid
    assert projections.pid
    os.kill(projections.pid, signal.SIGSTOP)
    created = await platform.create(person)
    before = await platform.history(person)
    os.kill(worker.pid, signal.SIGSTOP)
    try:
        await wiping.wipe("kafka", "projections", "api")
        entries = await platform.history(person)
    finally:
        os.kill(worker.pid, signal.SIGCONT)

    assert created.status_code == 201
    assert [entry["activityType"] for entry in before] == ["USER_REGISTERED"]
    assert [entry["activityType"] for entry in entries] == ["PROPERTY_CREATED", "USER_REGISTERED"]
    assert entries[0]["activityData"]["propertyId"] == created.json()["id"]


@pytest.mark.temporal
@pytest.mark.skipif(os.environ.get("TEST_TEMPORAL") != "server", reason="the production server: make test-temporal")
async def test_platform_says_what_a_wiped_temporal_lacks_and_recovers_once_it_is_registered(
    platform: Platform, wiping: Wiping, temporal_client: Client
) -> None:
    """The production server does not create a namespace; the worker process keeps running."""
    person = await platform.register()
    worker = platform.stack.processes["worker"].pid
    await wiping.wipe("temporal")

    await until(lambda: _worker_waits_for(platform.stack.ports, "no namespace 'default'"), seconds=60)
    assert (await platform.create(person)).status_code == 503
    await wiping.prepare_namespace()
    await until(lambda: _worker_waits_for(platform.stack.ports, "lacks search attributes"), seconds=60)
    assert (await platform.create(person)).status_code == 503
    await wiping.prepare_temporal()
    await until(lambda: _worker_waits_for(platform.stack.ports, ""), seconds=60)

    async def created() -> bool:
        return (await platform.create(person)).status_code == 201

    await until(created, seconds=60)
    described = await temporal_client.get_schedule_handle("reconcile").describe()
    assert not described.schedule.state.paused
    assert platform.stack.processes["worker"].pid == worker
    log = (platform.stack.data / "logs" / "worker.log").read_text()
    assert "ERROR   adapters.temporal_monitor: Temporal has no namespace 'default': register it" in log


async def test_worker_says_that_its_namespace_is_gone_and_works_again_once_it_is_registered(
    stack: Stack, settings: Settings, tmp_path: Path
) -> None:
    """On a server of its own, which makes no namespace of this name: before the worker starts, and when it is wiped."""
    ports = Ports(tmp_path / "ports.json")
    spec, where = engines.temporal(tmp_path, ports, {}, ui=False)
    env = {**stack.env, **where, "TEMPORAL_NAMESPACE": "portal", "OPS_PORT": str(ports["worker_ops"])}
    apart = settings.model_copy(
        update={"temporal_address": where["TEMPORAL_ADDRESS"], "temporal_namespace": env["TEMPORAL_NAMESPACE"]}
    )
    answers = engines.http_ready(f"http://127.0.0.1:{ports['worker_ops']}/livez")
    server = Process(spec, lambda _: None)
    worker = Process(
        Spec("worker", [sys.executable, "worker.py"], tmp_path / "worker.log", answers, env=env, cwd=ROOT),
        lambda _: None,
    )

    async def registered() -> Client:
        client = await temporal.connect_when_up(apart)
        await until(lambda: _worker_waits_for(ports, "no namespace 'portal'"), seconds=60)
        await client.workflow_service.register_namespace(
            RegisterNamespaceRequest(
                namespace=apart.temporal_namespace, workflow_execution_retention_period=Duration(seconds=86_400)
            )
        )
        await until(lambda: _worker_waits_for(ports, "lacks search attributes"), seconds=60)
        await temporal.ensure_search_attributes(apart)
        await until(lambda: _worker_waits_for(ports, ""), seconds=60)
        return client

    try:
        await server.start()
        await worker.start()
        pid = worker.pid
        await registered()
        await restart_empty({server: partial(delete, tmp_path, "temporal.db*")})
        client = await registered()

        assert (await client.get_schedule_handle("reconcile").describe()).id == "reconcile"
        done = await client.execute_workflow("reconcile", id="by-hand", task_queue=options.MAINTENANCE, result_type=str)
        assert "published" in done
        assert worker.pid == pid
    finally:
        await worker.stop()
        await server.stop()


async def _worker_waits_for(ports: Ports, what: str) -> bool:
    """Whether the worker's /readyz says so with 503; whether it is ready when `what` is empty."""
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.get(f"http://127.0.0.1:{ports['worker_ops']}/readyz")
    return (answer.status_code, what in answer.text) == (503 if what else 200, True)


def _more(acknowledged: set[str]) -> Callable[[], Awaitable[bool]]:
    """Whether twenty more commands have been acknowledged since this was called."""
    count = len(acknowledged)

    async def enough() -> bool:
        return len(acknowledged) >= count + 20

    return enough


async def _column(database: Database, column: ColumnElement[Any], *where: ColumnElement[bool]) -> list[Any]:
    async with database.transaction() as tx:
        return list((await tx.execute(select(column).where(*where))).scalars())


async def _listed_in_history(platform: Platform, person: Person) -> list[str]:
    """The properties of all entries about creations, on every page of the history."""
    listed: list[str] = []
    where: dict[str, str | int] = {"limit": 100}
    while True:
        page = await platform.http.get(f"/api/user-history/{person.id}", params=where, headers=person.headers)
        assert page.status_code == 200, page.text
        for entry in page.json()["items"]:
            if entry["activityType"] == "PROPERTY_CREATED":
                listed.append(entry["activityData"]["propertyId"])
        if page.json()["nextCursor"] is None:
            return listed
        where["cursor"] = page.json()["nextCursor"]
