"""Rate limits: windows, the address of a client, and sign-in attempts."""

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI, Request
from redis.asyncio import Redis

from adapters import redis
from adapters.settings import Settings
from api.app import create_app
from api.deps import address_of
from api.errors import ApiError
from api.limits import Limits
from tests.api.test_contract import assert_problem
from tests.platform import PASSWORD, Person, Platform, until
from tests.samples import listing


async def test_limit_has_retry_after_and_does_not_affect_others(valkey: Redis, tenant: str) -> None:
    limits = Limits(valkey)
    for _ in range(2):
        await limits.count(tenant, "login", "ravi", 2)

    with pytest.raises(ApiError) as refused:
        await limits.count(tenant, "login", "ravi", 2)

    assert refused.value.kind == "too-many-requests"
    assert 1 <= int(refused.value.headers["Retry-After"]) <= 60
    await limits.count(tenant, "login", "sita", 2)
    await limits.count(tenant, "register", "ravi", 2)


async def test_window_begins_with_the_first_request_and_is_not_extended(valkey: Redis, tenant: str) -> None:
    limits = Limits(valkey)
    await limits.count(tenant, "login", "ravi", 1)
    [key] = [key async for key in valkey.scan_iter(match=f"{tenant}:limit:*")]
    await valkey.pexpire(key, 30_000)  # half a minute has passed
    with pytest.raises(ApiError):
        await limits.count(tenant, "login", "ravi", 1)

    assert await valkey.pttl(key) <= 30_000
    await valkey.pexpire(key, 0)  # and the other half
    await limits.count(tenant, "login", "ravi", 1)


async def test_without_redis_only_limits_that_fail_closed_refuse(settings: Settings, tenant: str) -> None:
    unavailable = redis.connect(settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"}))
    limits = Limits(unavailable)

    await limits.count(tenant, "create", "ravi", 1)
    with pytest.raises(ApiError) as refused:
        await limits.count(tenant, "login", "ravi", 1, fail_closed=True)

    assert refused.value.kind == "unavailable"
    await unavailable.aclose()


@pytest.mark.parametrize(
    ("host", "counted"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2:aaaa::1", "2001:db8:1:2::/64"),
        ("2001:0DB8:1:2:bbbb:0:0:2", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("what a trusted proxy says", "unknown"),
    ],
)
def test_ipv6_addresses_are_counted_by_network(host: str, counted: str) -> None:
    assert address_of(Request({"type": "http", "client": (host, 50000)})) == counted


def test_unknown_addresses_share_a_limit() -> None:
    assert address_of(Request({"type": "http", "client": None})) == "unknown"


LIMIT = 3
"""Sign-in attempts a minute that the app accepts from one address."""
HERE, ELSEWHERE = "203.0.113.9", "198.51.100.7"


@pytest.fixture
async def app(settings: Settings, tenant: str) -> AsyncIterator[FastAPI]:
    """An API with a low limit."""
    low = {"login_attempts_per_minute_per_address": LIMIT, "login_failures": 2, "default_tenant": tenant}
    app = create_app(settings.model_copy(update=low))
    async with app.router.lifespan_context(app):
        yield app


async def sign_in(app: FastAPI, address: str, name: str, password: str = "a guess") -> httpx.Response:
    """The response to a client at `address`."""
    transport = httpx.ASGITransport(app, client=(address, 50000))
    async with httpx.AsyncClient(transport=transport, base_url="http://api", timeout=30) as http:
        return await http.post("/api/auth/login", json={"emailOrUsername": name, "password": password})


async def test_attempts_with_different_names_are_limited_by_address(app: FastAPI) -> None:
    answers = [await sign_in(app, HERE, f"name{n}") for n in range(LIMIT + 1)]
    elsewhere = await sign_in(app, ELSEWHERE, "name0")

    assert [answer.status_code for answer in answers[:LIMIT]] == [401] * LIMIT
    assert_problem(answers[LIMIT], "too-many-requests")
    assert 1 <= int(answers[LIMIT].headers["retry-after"]) <= 60
    assert_problem(elsewhere, "invalid-credentials")


async def test_addresses_of_one_ipv6_network_share_a_limit(app: FastAPI) -> None:
    network = [await sign_in(app, f"2001:db8:1:2::{n + 1}", f"name{n}") for n in range(LIMIT + 1)]
    neighbour = await sign_in(app, "2001:db8:1:3::1", "name0")

    assert [answer.status_code for answer in network] == [401] * LIMIT + [429]
    assert neighbour.status_code == 401


async def test_spellings_of_a_name_share_a_limit(app: FastAPI) -> None:
    spellings = ["ravi@example.com", " RAVI@example.com", "\u2003ravi@EXAMPLE.com\u00a0"]

    answers = [await sign_in(app, HERE, spelling) for spelling in spellings]

    assert [answer.status_code for answer in answers] == [401, 401, 429]


async def test_address_that_fills_its_queue_is_refused_and_another_is_served(app: FastAPI) -> None:
    threads, release = app.state.parts.passwords.threads, threading.Event()
    network = "2001:db8:1:2::/64"
    crowd = [asyncio.create_task(threads.run(network, release.wait)) for _ in range(100)]
    try:
        await asyncio.wait(crowd, return_when=asyncio.FIRST_COMPLETED)  # the first refusal: its queue is full

        refused = await sign_in(app, "2001:db8:1:2::77", "ravi")
        other = asyncio.create_task(sign_in(app, HERE, "ravi"))

        async def other_waits_or_is_refused() -> bool:
            return HERE in threads._queues or other.done()

        await until(other_waits_or_is_refused)
        release.set()

        assert_problem(refused, "unavailable")
        assert refused.headers["retry-after"] == "5"
        assert_problem(await other, "invalid-credentials")
    finally:
        release.set()
        await asyncio.gather(*crowd, return_exceptions=True)


async def test_flood_from_one_address_does_not_close_sign_in_for_another(
    platform: Platform, settings: Settings
) -> None:
    """Not even when no other limit stops it: an address has eight waiting hashes, and the others take turns."""
    person = await platform.register()
    unlimited = {"login_attempts_per_minute_per_address": 100_000, "login_failures_per_address": 100_000}
    app = create_app(settings.model_copy(update=unlimited))
    async with app.router.lifespan_context(app):
        flood = [asyncio.create_task(sign_in(app, f"2001:db8:1:2::{n:x}", f"name{n}")) for n in range(400)]
        await asyncio.wait(flood, return_when=asyncio.FIRST_COMPLETED)
        still_flooding = sum(not attempt.done() for attempt in flood)
        other = await sign_in(app, HERE, person.email, PASSWORD)
        answers = await asyncio.gather(*flood)

    assert still_flooding > 0
    assert other.status_code == 200, other.text
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) == {401, 503}
    assert statuses.count(503) > 300
    for answer in answers:
        if answer.status_code == 503:
            assert_problem(answer, "unavailable")
            assert answer.headers["retry-after"] == "5"


async def test_views_are_limited_by_account_or_address(settings: Settings, tenant: str) -> None:
    app = create_app(settings.model_copy(update={"views_per_minute": 2, "default_tenant": tenant}))
    async with app.router.lifespan_context(app):

        async def view(address: str) -> httpx.Response:
            transport = httpx.ASGITransport(app, client=(address, 50000))
            async with httpx.AsyncClient(transport=transport, base_url="http://api", timeout=30) as http:
                return await http.post(f"/api/properties/{uuid4()}/views", headers={"User-Agent": uuid4().hex})

        here = [await view(HERE) for _ in range(3)]
        elsewhere = await view(ELSEWHERE)

    assert [answer.status_code for answer in here] == [404, 404, 429]
    assert_problem(elsewhere, "not-found")


async def test_searches_for_commands_that_are_not_recorded_are_limited_by_user(
    platform: Platform, settings: Settings
) -> None:
    """Each makes one call to Temporal per type of command; reads of recorded commands and sending are not counted."""
    person, other = await platform.register(), await platform.register()
    recorded = f"/api/commands/{(await platform.create(person)).headers['command-id']}"
    app = create_app(settings.model_copy(update={"commands_per_minute": 2}))
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://api", timeout=30) as http,
    ):

        async def state(path: str, who: Person) -> httpx.Response:
            return await http.get(path, headers=who.headers)

        own = [await state(recorded, person) for _ in range(3)]
        unknown = [await state(f"/api/commands/{uuid4()}", person) for _ in range(3)]
        afterwards = await state(recorded, person)
        of_another = await state(f"/api/commands/{uuid4()}", other)
        sent = await http.post("/api/properties", json=listing(), headers=person.headers)

    assert [answer.status_code for answer in own] == [200] * 3
    assert [answer.status_code for answer in unknown] == [404, 404, 429]
    assert_problem(unknown[2], "too-many-requests")
    assert 1 <= int(unknown[2].headers["retry-after"]) <= 60
    assert afterwards.status_code == 200
    assert_problem(of_another, "not-found")
    assert sent.status_code == 201


PLACES = "bbox=78.2,17.2,78.7,17.6&zoom=12"
SEARCHING = ["/api/search/properties", f"/api/search/clusters?{PLACES}", "/api/search/recommendations"]


async def test_searches_are_limited_by_account_or_address_and_suggestions_apart(
    platform: Platform, settings: Settings
) -> None:
    person = await platform.register()
    similar = f"/api/properties/{(await platform.create(person)).json()['id']}/similar"
    app = create_app(settings.model_copy(update={"searches_per_minute": 4, "suggestions_per_minute": 2}))
    async with app.router.lifespan_context(app):

        async def ask(address: str, path: str, method: str = "GET", **sent: Any) -> httpx.Response:
            transport = httpx.ASGITransport(app, client=(address, 50000))
            async with httpx.AsyncClient(transport=transport, base_url="http://api", timeout=30) as http:
                return await http.request(method, path, **sent)

        here = f"2001:db8:{uuid4().hex[:4]}:1::1"
        allowed = [await ask(here, path) for path in [*SEARCHING, similar]]
        refused = [await ask(here, path) for path in [*SEARCHING, similar]]
        drawn = await ask(here, SEARCHING[0], "POST", json={})
        signed_in = await ask(here, SEARCHING[0], headers=person.headers)
        ring = [[78.4 + n / 1000, 17.4 + n * n / 10_000] for n in range(30)]
        polygon = {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}
        there = here.replace(":1::1", ":2::1")
        in_polygon = [await ask(there, SEARCHING[0], "POST", json={"polygon": polygon}) for _ in range(2)]
        suggested = [await ask(here, "/api/search/suggestions?q=gach") for _ in range(3)]

    assert [answer.status_code for answer in allowed] == [200] * 4
    assert in_polygon[0].status_code == 200
    for answer in [*refused, drawn, in_polygon[1], suggested[2]]:
        assert_problem(answer, "too-many-requests")
        assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert signed_in.status_code == 200
    assert [answer.status_code for answer in suggested[:2]] == [200, 200]
