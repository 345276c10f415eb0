"""The headers RateLimit and RateLimit-Policy, of every response that a limit has counted."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI

from adapters import redis
from adapters.settings import Settings
from api.app import create_app
from api.limits import Limits
from api.quotas import Quota, collected, headers, report
from tests.api.test_contract import assert_problem
from tests.platform import PASSWORD, Person, Platform, registration
from tests.samples import listing

# Structured fields (RFC 9651): a list of strings with integer parameters.
_POLICY = re.compile(r'"(?P<name>[a-z-]+)";q=(?P<q>[0-9]+);w=(?P<w>[0-9]+)')
_STATE = re.compile(r'"(?P<name>[a-z-]+)";r=(?P<r>[0-9]+);t=(?P<t>[0-9]+)')


def test_headers_list_every_quota() -> None:
    quotas = [Quota("login-address", 60, 60, 59, 60), Quota("failed-logins", 5, 3600, 4, 3599)]

    assert headers(quotas) == [
        (b"ratelimit-policy", b'"login-address";q=60;w=60, "failed-logins";q=5;w=3600'),
        (b"ratelimit", b'"login-address";r=59;t=60, "failed-logins";r=4;t=3599'),
    ]
    assert headers([]) == []


def test_later_report_of_a_quota_replaces_the_earlier_one() -> None:
    quotas = collected()
    report(Quota("commands", 600, 60, 10, 5))
    report(Quota("commands", 600, 60, 11, 5))

    assert [quota.left for quota in quotas.values()] == [11]


def quotas_of(answer: httpx.Response) -> dict[str, dict[str, int]]:
    """The quotas in a response, by name."""
    found: dict[str, dict[str, int]] = {}
    for header, form in (("ratelimit-policy", _POLICY), ("ratelimit", _STATE)):
        for item in filter(None, answer.headers.get(header, "").split(", ")):
            match = form.fullmatch(item)
            assert match, item
            numbers = {key: int(value) for key, value in match.groupdict().items() if key != "name"}
            found.setdefault(match["name"], {}).update(numbers)
    assert all(quota.keys() == {"q", "w", "r", "t"} for quota in found.values()), answer.headers
    return found


@pytest.fixture(scope="module")
async def app(settings: Settings) -> AsyncIterator[FastAPI]:
    """An API with low limits."""
    names = ("commands_per_minute", "views_per_minute", "registrations_per_minute")
    low = {**dict.fromkeys(names, 2), "login_failures": 2}
    app = create_app(settings.model_copy(update=low))
    async with app.router.lifespan_context(app):
        yield app


Send = Callable[[httpx.AsyncClient, Person], Awaitable[httpx.Response]]

ROUTES: dict[str, tuple[Send, set[str], int]] = {
    "register": (
        lambda http, _: http.post("/api/auth/register", json=registration()),
        {"register"},
        201,
    ),
    "login": (
        lambda http, person: http.post("/api/auth/login", json={"emailOrUsername": person.email, "password": "no"}),
        {"login-address", "failed-logins", "failed-logins-address", "failed-logins-account"},
        401,
    ),
    "create": (
        lambda http, person: http.post("/api/properties", json=listing(), headers=person.headers),
        {"commands"},
        201,
    ),
    "view": (
        lambda http, person: http.post(f"/api/properties/{uuid4()}/views", headers=person.headers),
        {"views"},
        404,
    ),
    "search for a command": (
        lambda http, person: http.get(f"/api/commands/{uuid4()}", headers=person.headers),
        {"command-searches"},
        404,
    ),
    "change the password": (
        lambda http, person: http.post(
            "/api/users/password",
            json={"currentPassword": "no", "newPassword": "lamp orbit nine"},
            headers=person.headers,
        ),
        {"password", "failed-logins", "failed-logins-address", "failed-logins-account"},
        403,
    ),
    "ask for a link": (
        lambda http, person: http.post("/api/auth/forgot-password", json={"email": person.email}),
        {"link-address", "link"},
        202,
    ),
    "use a link": (
        lambda http, _: http.post("/api/auth/verify-email", json={"token": "x"}),
        {"link-token"},
        400,
    ),
}


@pytest.mark.parametrize("route", ROUTES)
async def test_every_limited_answer_tells_its_quotas(app: FastAPI, platform: Platform, route: str) -> None:
    send, names, status = ROUTES[route]
    person = await platform.register()
    transport = httpx.ASGITransport(app, client=(f"2001:db8:0:{uuid4().hex[:4]}::1", 50000))
    async with httpx.AsyncClient(transport=transport, base_url="http://api", timeout=30) as http:
        answers = [await send(http, person)]
        while answers[-1].status_code == status:
            answers.append(await send(http, person))

    assert_problem(answers[-1], "too-many-requests")
    found = [quotas_of(answer) for answer in answers]
    assert all(quotas.keys() == names for quotas in found)
    [limit] = {name for name in names if found[-1][name]["r"] == 0}
    assert [quotas[limit]["r"] for quotas in found] == [*range(found[0][limit]["q"] - 1, -1, -1), 0]
    assert all(1 <= quota["t"] <= quota["w"] for quotas in found for quota in quotas.values())
    assert int(answers[-1].headers["retry-after"]) == found[-1][limit]["t"]


async def test_success_restores_the_quota_of_failed_sign_ins(app: FastAPI, platform: Platform) -> None:
    person = await platform.register()
    transport = httpx.ASGITransport(app, client=("2001:db8:77::1", 50000))
    async with httpx.AsyncClient(transport=transport, base_url="http://api", timeout=30) as http:

        async def sign_in(password: str) -> dict[str, dict[str, int]]:
            body = {"emailOrUsername": person.email, "password": password}
            return quotas_of(await http.post("/api/auth/login", json=body))

        assert (await sign_in("no"))["failed-logins"]["r"] == 1
        assert (await sign_in(PASSWORD))["failed-logins"]["r"] == 2


async def test_answers_without_a_limit_and_without_redis_have_no_quota(
    platform: Platform, settings: Settings, tenant: str
) -> None:
    assert not quotas_of(await platform.http.get("/api/properties"))
    unavailable = redis.connect(settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"}))
    quotas = collected()
    await Limits(unavailable).count(tenant, "commands", "ravi", 1)
    await unavailable.aclose()

    assert not quotas


async def test_concurrent_requests_tell_their_own_quotas(app: FastAPI, platform: Platform) -> None:
    person = await platform.register()
    transport = httpx.ASGITransport(app, client=("2001:db8:78::1", 50000))
    async with httpx.AsyncClient(transport=transport, base_url="http://api", timeout=30) as http:
        viewed, read = await asyncio.gather(
            http.post(f"/api/properties/{uuid4()}/views", headers=person.headers),
            http.get("/api/users/profile", headers=person.headers),
        )

    assert quotas_of(viewed).keys() == {"views"}
    assert not quotas_of(read)


async def test_pages_of_other_origins_may_read_the_quotas(platform: Platform) -> None:
    answer = await platform.http.get("/api/properties", headers={"Origin": "https://portal.example"})

    exposed = {name.strip() for name in answer.headers["access-control-expose-headers"].split(",")}
    assert {"RateLimit", "RateLimit-Policy", "Retry-After"} <= exposed
