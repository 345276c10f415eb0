"""Administrators without a second factor, with ADMIN_SECOND_FACTOR=true: what their limited sessions are good for."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from adapters.postgres import Database
from adapters.settings import Settings
from api.app import create_app
from domain.roles import UserRole
from domain.user_commands import ChangeRole
from tests.activities.accounts import Saving
from tests.api.test_contract import assert_problem
from tests.authenticator import ORIGIN, Authenticator
from tests.platform import PASSWORD, Platform, registration, until
from tests.samples import new_id
from tests.second_factors import App, begin, confirm, enable, forget_steps

LIMITED = {
    ("GET", "/api/users/profile"),
    ("POST", "/api/users/second-factor"),
    ("POST", "/api/users/second-factor/confirm"),
    ("GET", "/api/users/passkeys"),
    ("POST", "/api/users/passkeys"),
    ("POST", "/api/users/passkeys/options"),
}
"""The routes that a limited token is good for."""


@pytest.fixture
async def http(platform: Platform, settings: Settings, tenant: str) -> AsyncIterator[httpx.AsyncClient]:
    """An API of one tenant that demands a second factor of administrators; the workers of the platform run commands."""
    app = create_app(
        settings.model_copy(update={"default_tenant": tenant, "admin_second_factor": True, "public_url": ORIGIN})
    )
    address = f"2001:db8:{uuid4().hex[:4]}:1::1"
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app, client=(address, 50000)), base_url="http://api", timeout=30
        ) as client,
    ):
        yield client


class Admin:
    """An account whose role was changed to ADMIN, with the tokens of its newest session."""

    def __init__(self, http: httpx.AsyncClient, body: dict[str, Any], user_id: str) -> None:
        self.http = http
        self.name = body["email"]
        self.id = user_id
        self.tokens: dict[str, Any] = {}

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.tokens['accessToken']}"}

    async def login(self, code: str | None = None) -> httpx.Response:
        body = {"emailOrUsername": self.name, "password": PASSWORD} | ({"code": code} if code else {})
        return self.kept(await self.http.post("/api/auth/login", json=body))

    async def refresh(self) -> httpx.Response:
        body = {"refreshToken": self.tokens["refreshToken"]}
        return self.kept(await self.http.post("/api/auth/refresh", json=body))

    async def is_limited(self) -> bool:
        answer = await self.http.get(f"/api/user-history/{self.id}", headers=self.headers)
        if answer.status_code == 200:
            return False
        assert_problem(answer, "second-factor-needed")
        return True

    def kept(self, answer: httpx.Response) -> httpx.Response:
        if answer.status_code == 200:
            self.tokens = answer.json()
        return answer


async def registered(http: httpx.AsyncClient, saving: Saving, tenant: str, role: UserRole) -> Admin:
    body: dict[str, Any] = registration()
    answer = await http.post("/api/auth/register", json=body)
    assert answer.status_code == 201, answer.text
    user_id = answer.json()["user"]["id"]
    promote = ChangeRole(
        command_id=new_id(), tenant_id=tenant, user_id=UUID(user_id), issued_at=datetime.now(UTC), role=role
    )
    await saving.user(promote)
    return Admin(http, body, user_id)


@pytest.fixture
async def admin(http: httpx.AsyncClient, saving: Saving, tenant: str) -> Admin:
    return await registered(http, saving, tenant, UserRole.ADMIN)


async def test_administrator_without_second_factor_can_only_set_one_up(admin: Admin) -> None:
    """Every route of the API is tried, with whatever body."""
    assert (await admin.login()).status_code == 200
    document = (await admin.http.get("/openapi.json")).json()
    tried = set()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if not any("accessToken" in scheme for scheme in operation.get("security", ())):
                continue
            url = path.replace("{", "").replace("}", "")
            answer = await admin.http.request(method.upper(), _with_ids(url), headers=admin.headers, json={})
            limited = (method.upper(), path) in LIMITED
            assert (answer.status_code == 403) is not limited, (method, path, answer.text)
            if not limited:
                assert_problem(answer, "second-factor-needed")
            tried.add((method.upper(), path))
    assert tried > LIMITED


def _with_ids(path: str) -> str:
    return "/".join(str(uuid4()) if part.endswith("_id") else part for part in path.split("/"))


async def test_limited_session_is_full_once_its_second_factor_is_enabled(admin: Admin) -> None:
    await admin.login()
    assert await admin.is_limited()
    app = await enable(admin.http, admin.headers)

    assert (await admin.refresh()).status_code == 200
    assert not await admin.is_limited()
    assert_problem(await admin.login(), "second-factor-required")
    assert (await admin.login(app.code(1))).status_code == 200
    assert not await admin.is_limited()


async def test_session_from_before_is_closed_when_the_second_factor_is_enabled(
    admin: Admin, http: httpx.AsyncClient
) -> None:
    """Who had the password alone, and signed in first, gains nothing when the owner enables a second factor."""
    await admin.login()
    thief = dict(admin.tokens)
    setup = (await begin(http, {"Authorization": f"Bearer {thief['accessToken']}"})).json()
    await admin.login()
    await enable(http, admin.headers)
    stolen = {"Authorization": f"Bearer {thief['accessToken']}"}

    async def is_refused() -> bool:
        return (await http.get("/api/users/profile", headers=stolen)).status_code == 401

    await until(is_refused)
    refreshed = await http.post("/api/auth/refresh", json={"refreshToken": thief["refreshToken"]})
    assert_problem(refreshed, "invalid-refresh-token")
    late = await confirm(http, stolen, setup["setupToken"], App(setup["secret"]).code())
    assert_problem(late, "session-closed")


async def test_administrator_who_disables_the_second_factor_is_limited_from_the_next_refresh(
    admin: Admin, database: Database, tenant: str
) -> None:
    await admin.login()
    app = await enable(admin.http, admin.headers)
    await admin.refresh()
    await forget_steps(database, tenant, admin.id)
    body = {"password": PASSWORD, "code": app.code()}
    disabled = await admin.http.request("DELETE", "/api/users/second-factor", json=body, headers=admin.headers)
    assert disabled.status_code == 204, disabled.text

    assert (await admin.refresh()).status_code == 200
    assert await admin.is_limited()


async def passkey_options(admin: Admin) -> httpx.Response:
    path = "/api/users/passkeys/options"
    return await admin.http.post(path, json={"password": PASSWORD}, headers=admin.headers)


async def add_passkey(admin: Admin, credential: dict[str, Any]) -> httpx.Response:
    body = {"credential": credential, "name": "Key"}
    return await admin.http.post("/api/users/passkeys", json=body, headers=admin.headers)


async def test_passkey_is_a_second_factor(admin: Admin) -> None:
    await admin.login()
    authenticator = Authenticator(origin=ORIGIN)
    assert (await add_passkey(admin, authenticator.make((await passkey_options(admin)).json()))).status_code == 201

    assert (await admin.refresh()).status_code == 200
    assert not await admin.is_limited()
    refused = assert_problem(await admin.login(), "second-factor-required")
    assert "passkey" in refused["detail"]
    options = (await admin.http.post("/api/auth/passkeys/options")).json()
    signed_in = await admin.http.post("/api/auth/passkeys", json={"credential": authenticator.sign(options)})
    assert admin.kept(signed_in).status_code == 200, signed_in.text
    assert not await admin.is_limited()


async def test_session_from_before_a_passkey_sets_up_no_second_factor_of_its_own(admin: Admin) -> None:
    await admin.login()
    thief = dict(admin.tokens)
    setup = (await begin(admin.http, admin.headers)).json()
    credential = Authenticator(origin=ORIGIN).make((await passkey_options(admin)).json())
    await admin.login()
    made = Authenticator(origin=ORIGIN).make((await passkey_options(admin)).json())
    assert (await add_passkey(admin, made)).status_code == 201
    admin.tokens = thief

    assert (await admin.refresh()).status_code == 200
    assert await admin.is_limited()
    app = App(setup["secret"])
    for refused in (
        await begin(admin.http, admin.headers),
        await confirm(admin.http, admin.headers, setup["setupToken"], app.code()),
        await passkey_options(admin),
        await add_passkey(admin, credential),
    ):
        assert_problem(refused, "second-factor-needed")


async def test_other_roles_need_no_second_factor(http: httpx.AsyncClient, saving: Saving, tenant: str) -> None:
    agent = await registered(http, saving, tenant, UserRole.AGENT)

    assert (await agent.login()).status_code == 200
    assert not await agent.is_limited()


async def test_sign_in_by_passkey_is_limited_by_address(http: httpx.AsyncClient) -> None:
    answers = [await http.post("/api/auth/passkeys/options") for _ in range(61)]

    assert [answer.status_code for answer in answers] == [200] * 60 + [429]
    limited = assert_problem(answers[-1], "too-many-requests")
    assert "minute" in limited["detail"]
    credential = Authenticator(user_handle=bytes(16)).sign(answers[0].json())
    assert_problem(await http.post("/api/auth/passkeys", json={"credential": credential}), "too-many-requests")
