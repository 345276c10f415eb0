"""Views and logins: durable when answered, counted once, and anonymous without an account."""

import asyncio
import base64
import os
import signal
from collections.abc import AsyncIterator
from datetime import date
from typing import Any
from uuid import UUID

import httpx
import pytest
from redis.asyncio import Redis
from sqlalchemy import select
from temporalio.client import Client

from adapters import kafka, redis, temporal
from adapters.postgres import Database
from adapters.settings import Settings
from adapters.tables import event_store, user_activity
from adapters.telemetry import OBSERVATIONS
from api import observations as observations_module
from api.errors import ApiError
from api.observations import MAX_BATCH, Observations, Visitor
from domain.events import PROPERTY_EVENTS, USER_ACTIVITY
from domain.observations import ANONYMOUS
from projections.counts import Kind
from tests.activities.accounts import Saving
from tests.api.test_contract import assert_problem
from tests.platform import PASSWORD, Person, Platform, until
from tests.projections.messages import counted_versions
from tests.samples import create_property, new_id

pytestmark = pytest.mark.temporal

_NOWHERE = 9  # the discard port, on which no server listens


async def listed(platform: Platform, **more: str) -> tuple[Person, str]:
    """A listing and its owner."""
    owner = await platform.register()
    created = await platform.create(owner, None, **more)
    assert created.status_code == 201, created.text
    return owner, created.json()["id"]


async def look(platform: Platform, listing: str, browser: str = "", person: Person | None = None) -> httpx.Response:
    headers = {"User-Agent": browser} | (person.headers if person else {})
    return await platform.http.post(f"/api/properties/{listing}/views", headers=headers)


async def look_at_once(platform: Platform, listing: str, browsers: list[str]) -> list[httpx.Response]:
    """Concurrent views, one for each browser."""
    async with httpx.AsyncClient(base_url=platform.url, timeout=30, trust_env=False) as http:
        path = f"/api/properties/{listing}/views"
        return await asyncio.gather(*(http.post(path, headers={"User-Agent": browser}) for browser in browsers))


async def test_views_count_follows_and_repeats_are_counted_once(platform: Platform, all_tenants: Database) -> None:
    owner, listing = await listed(platform)
    path = f"/api/properties/{listing}"
    etag = (await platform.http.get(path)).headers["etag"]

    answers = await look_at_once(platform, listing, [f"browser {n % 12}" for n in range(36)])
    answers += [await look(platform, listing, person=owner), await look(platform, listing, "browser 0")]

    stored = {str(row.event_id) for row in await views(all_tenants, listing)}

    async def projection_has_every_view() -> bool:
        return (await counted_versions(all_tenants, Kind.VIEW, UUID(listing))).keys() == stored

    await until(projection_has_every_view)
    read = await platform.http.get(path)
    assert {answer.status_code for answer in answers} == {204}
    assert (len(stored), read.json()["viewsCount"]) == (12, 12)
    assert read.headers["etag"] == etag


async def views(database: Database, listing: object) -> list[Any]:
    """The stored views of a listing."""
    query = select(event_store).where(
        event_store.c.aggregate_id == str(listing), event_store.c.event_type == "PROPERTY_VIEWED"
    )
    async with database.transaction() as tx:
        return list(await tx.execute(query))


def anonymous(browser: str) -> Visitor:
    return Visitor(None, "203.0.113.7", browser)


@pytest.fixture
async def listing(saving: Saving, tenant: str) -> UUID:
    """A listing of the test's tenant."""
    command = create_property(tenant, await saving.registered(tenant))
    await saving.property(command)
    return command.property_id


@pytest.fixture
async def short_wait(settings: Settings) -> Settings:
    """Settings with a short wait for a batch."""
    return settings.model_copy(update={"command_wait_seconds": 0.5})


@pytest.fixture
async def observations(
    platform: Platform, temporal_client: Client, database: Database, valkey: Redis, settings: Settings
) -> AsyncIterator[Observations]:
    """The class that an API process uses, with the running workers."""
    observations = Observations(temporal_client, database, valkey, settings)
    yield observations
    await observations.close()


@pytest.fixture
async def without_temporal(
    platform: Platform, database: Database, valkey: Redis, short_wait: Settings
) -> AsyncIterator[Observations]:
    unreachable = await temporal.connect(short_wait.model_copy(update={"temporal_address": f"127.0.0.1:{_NOWHERE}"}))
    observations = Observations(unreachable, database, valkey, short_wait)
    yield observations
    await observations.close()


async def test_many_views_at_once_share_few_workflows_and_each_is_stored_once(
    platform: Platform, all_tenants: Database
) -> None:
    _, listing = await listed(platform)

    answers = await look_at_once(platform, listing, [f"browser {n}" for n in range(100)])

    assert {answer.status_code for answer in answers} == {204}
    found = await views(all_tenants, listing)
    assert len(found) == 100
    assert len({row.command_id for row in found}) <= 20


async def test_a_burst_is_split_into_workflows_of_a_bounded_size(
    observations: Observations, all_tenants: Database, temporal_client: Client, tenant: str, listing: UUID
) -> None:
    count = 2 * MAX_BATCH + 50

    await asyncio.gather(*(observations.viewed(tenant, listing, anonymous(f"{n}")) for n in range(count)))

    found = await views(all_tenants, listing)
    sizes = [sum(row.command_id == batch for row in found) for batch in {row.command_id for row in found}]
    assert sum(sizes) == count
    assert max(sizes) <= MAX_BATCH
    for batch in {row.command_id for row in found}:
        described = await temporal_client.get_workflow_handle(f"record-activity/{batch}").describe()
        size = sum(row.command_id == batch for row in found)
        assert await described.static_summary() == f"{size} observations"


async def test_owners_and_repeated_views_are_not_counted(platform: Platform, all_tenants: Database) -> None:
    owner, listing = await listed(platform)
    visitor = await platform.register()

    answers = [await look(platform, listing, "a browser", owner)]
    for _ in range(2):
        answers += [
            await look(platform, listing, "a browser", visitor),
            await look(platform, listing, "another browser", visitor),
            await look(platform, listing, "a browser"),
        ]

    assert {answer.status_code for answer in answers} == {204}
    assert sorted(row.user_id for row in await views(all_tenants, listing)) == sorted([str(ANONYMOUS), visitor.id])


async def test_the_same_view_sent_at_once_by_many_is_stored_once(platform: Platform, all_tenants: Database) -> None:
    _, listing = await listed(platform)

    answers = await look_at_once(platform, listing, ["a browser"] * 20)

    assert {answer.status_code for answer in answers} == {204}
    assert len(await views(all_tenants, listing)) == 1


async def test_view_of_a_hidden_listing_is_not_found(platform: Platform, all_tenants: Database) -> None:
    owner, draft = await listed(platform, status="DRAFT")
    visitor = await platform.register()
    nothing = str(new_id())

    assert_problem(await look(platform, draft), "not-found")
    assert_problem(await look(platform, draft, person=visitor), "not-found")
    assert_problem(await look(platform, nothing), "not-found")
    assert (await look(platform, draft, person=owner)).status_code == 204
    assert_problem(await platform.http.post("/api/properties/not-an-id/views"), "invalid-request")
    assert await views(all_tenants, draft) == []


async def test_history_shows_views_and_logins(platform: Platform) -> None:
    _, listing = await listed(platform, title="House with a well")
    visitor = await platform.register()

    await look(platform, listing, person=visitor)
    signed_in = await platform.http.post(
        "/api/auth/login", json={"emailOrUsername": visitor.email, "password": PASSWORD}
    )
    refreshed = await platform.http.post("/api/auth/refresh", json={"refreshToken": signed_in.json()["refreshToken"]})

    assert (signed_in.status_code, refreshed.status_code) == (200, 200)

    async def has_both() -> list[dict[str, Any]]:
        entries = await platform.history(visitor)
        return entries if len(entries) >= 3 else []

    entries = await until(has_both)
    assert [(entry["activityType"], entry["description"]) for entry in entries] == [
        ("USER_LOGGED_IN", "User logged in"),
        ("PROPERTY_VIEWED", "User viewed property: House with a well"),
        ("USER_REGISTERED", "User registered"),
    ]
    assert entries[1]["activityData"]["propertyId"] == listing


async def test_views_are_not_in_the_events_of_a_listing(platform: Platform) -> None:
    owner, listing = await listed(platform)

    await look(platform, listing)

    events = (await platform.http.get(f"/api/properties/{listing}/history", headers=owner.headers)).json()["items"]
    assert [event["eventType"] for event in events] == ["PROPERTY_CREATED"]


async def test_anonymous_view_stores_no_personal_data(
    platform: Platform, settings: Settings, all_tenants: Database, temporal_client: Client, valkey: Redis
) -> None:
    _, listing = await listed(platform)
    browser, address = "Gecko with a unique name", "198.51.100.23"
    consumer = kafka.consumer(settings, None, PROPERTY_EVENTS, USER_ACTIVITY)
    await consumer.start()
    personal = {"User-Agent": browser, "X-Forwarded-For": address}

    answer = await platform.http.post(f"/api/properties/{listing}/views", headers=personal)

    assert answer.status_code == 204
    [row] = await views(all_tenants, listing)
    published: list[tuple[str, bytes]] = []
    async with asyncio.timeout(20):
        while not any(str(row.event_id).encode() in value for _, value in published):
            batches = await consumer.getmany(timeout_ms=200)
            published += [(record.topic, record.value) for batch in batches.values() for record in batch]
    await consumer.stop()
    handle = temporal_client.get_workflow_handle(f"record-activity/{row.command_id}")
    await handle.result()
    history = (await handle.fetch_history()).to_json_dict()
    kept = [key + (await valkey.get(key) or b"") async for key in valkey.scan_iter(f"*{listing}*")]
    payloads = "".join(_decoded(history))

    assert str(row.event_id) in payloads
    for place in (str(row), str(published), payloads, str(history), str(kept)):
        assert browser not in place
        assert address not in place
    assert len(kept) == 1
    assert row.user_id == str(ANONYMOUS)
    said = str(row.event_id).encode()
    assert [topic for topic, value in published if said in value] == [PROPERTY_EVENTS]
    async with all_tenants.transaction() as tx:
        query = select(user_activity).where(user_activity.c.user_id == str(ANONYMOUS))
        assert list(await tx.execute(query)) == []


def _decoded(value: Any) -> list[str]:
    """Every text of a history, with its payloads decoded."""
    if isinstance(value, dict):
        inner = [text for one in value.values() for text in _decoded(one)]
        return inner + ([base64.b64decode(value["data"]).decode()] if isinstance(value.get("data"), str) else [])
    if isinstance(value, list):
        return [text for one in value for text in _decoded(one)]
    return [str(value)]


async def test_visitor_id_without_an_account_changes_every_day(observations: Observations) -> None:
    visitor = anonymous("a browser")
    names = [observations._visitor_id(visitor, day) for day in (date(2026, 1, 1), date(2026, 1, 1), date(2026, 1, 2))]

    assert names[0] == names[1] != names[2]


async def test_view_whose_batch_failed_is_recorded_by_a_repetition(
    observations: Observations, without_temporal: Observations, all_tenants: Database, tenant: str, listing: UUID
) -> None:
    failed = await asyncio.gather(
        *(without_temporal.viewed(tenant, listing, anonymous(f"{n}")) for n in range(3)), return_exceptions=True
    )
    nothing = await views(all_tenants, listing)
    for _ in range(2):
        await asyncio.gather(*(observations.viewed(tenant, listing, anonymous(f"{n}")) for n in range(3)))

    assert [error.kind for error in failed if isinstance(error, ApiError)] == ["unavailable"] * 3
    assert nothing == []
    assert len(await views(all_tenants, listing)) == 3


async def test_view_that_is_saved_after_a_503_and_repeated_is_stored_once(
    platform: Platform,
    temporal_client: Client,
    database: Database,
    valkey: Redis,
    all_tenants: Database,
    short_wait: Settings,
    tenant: str,
    listing: UUID,
) -> None:
    """The worker is stopped: Temporal has the batch, and the response is 503."""
    observations = Observations(temporal_client, database, valkey, short_wait)
    worker = platform.stack.processes["worker"].pid
    assert worker
    os.kill(worker, signal.SIGSTOP)
    try:
        with pytest.raises(ApiError) as error:
            await observations.viewed(tenant, listing, anonymous("a browser"))
    finally:
        os.kill(worker, signal.SIGCONT)
    assert error.value.kind == "unavailable"

    async def repeated() -> bool:
        try:
            await observations.viewed(tenant, listing, anonymous("a browser"))
        except ApiError:
            return False
        return True

    await until(repeated)

    async def everything_ended() -> bool:
        running = await temporal_client.count_workflows(f"TenantId = '{tenant}' AND ExecutionStatus = 'Running'")
        return running.count == 0

    await until(everything_ended)
    assert len(await views(all_tenants, listing)) == 1


async def test_without_redis_repeated_views_are_counted(
    platform: Platform,
    temporal_client: Client,
    database: Database,
    all_tenants: Database,
    settings: Settings,
    tenant: str,
    listing: UUID,
) -> None:
    unreachable = redis.connect(settings.model_copy(update={"redis_url": f"redis://127.0.0.1:{_NOWHERE}/0"}))
    observations = Observations(temporal_client, database, unreachable, settings)

    for _ in range(2):
        await observations.viewed(tenant, listing, anonymous("a browser"))

    assert len(await views(all_tenants, listing)) == 2
    await unreachable.aclose()


async def test_login_does_not_fail_without_temporal(without_temporal: Observations, tenant: str) -> None:
    def lost() -> float:
        return float(OBSERVATIONS.labels("USER_LOGGED_IN", "failed")._value.get())

    before = lost()

    await without_temporal.logged_in(tenant, new_id())
    await without_temporal.close()

    assert lost() == before + 1


async def test_failed_sign_in_is_saved_after_its_request_and_one_to_no_account_is_not(
    observations: Observations, all_tenants: Database, tenant: str
) -> None:
    user_id = new_id()

    observations.login_failed(tenant, user_id, "Chrome on Android")
    observations.login_failed(tenant, None, "Chrome on Android")
    await observations.close()

    query = select(event_store).where(event_store.c.tenant_id == tenant)
    async with all_tenants.transaction() as tx:
        [row] = await tx.execute(query)
    assert (row.event_type, row.aggregate_id, row.version) == ("LOGIN_FAILED", str(user_id), 0)
    assert row.event_data == {"userId": str(user_id), "device": "Chrome on Android"}


async def test_failed_sign_ins_that_cannot_be_saved_are_bounded_and_disturb_nobody(
    without_temporal: Observations, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observations_module, "_MAX_FAILURES", 3)

    def lost() -> float:
        return float(OBSERVATIONS.labels("LOGIN_FAILED", "failed")._value.get())

    before = lost()
    for _ in range(5):
        without_temporal.login_failed(tenant, new_id(), None)
    assert lost() == before + 2

    await without_temporal.close()

    assert lost() == before + 5
