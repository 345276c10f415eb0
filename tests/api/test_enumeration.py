"""Nobody learns whether an address or a name has an account, beyond what registering must tell.

For a name with an account and one without, the answers are equal in status, headers and body, and the API does the same
work before it answers: statements, hashes, and workflows that it starts.
"""

import re
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import event, text
from temporalio.client import Client

from adapters.postgres import Database
from adapters.settings import Settings
from api.app import create_app
from api.passwords import FairThreads
from tests.api.test_contract import assert_problem
from tests.platform import PASSWORD, Platform, registration, until
from tests.second_factors import enable

T = TypeVar("T")


class CountingThreads(FairThreads):
    """The threads of hashing, and how much they have computed."""

    runs = 0

    async def run(self, address: str, work: Callable[..., T], *arguments: object) -> T:
        self.runs += 1
        return await super().run(address, work, *arguments)


@dataclass
class Work:
    """What the API did for one request."""

    statements: list[str] = field(default_factory=list)
    hashes: int = 0


@dataclass
class Observed:
    """An answer without what differs by time, and the work for it."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    work: Work


class Stranger:
    """Sends requests from an address of their own to an API whose work is counted."""

    def __init__(self, app: FastAPI, threads: CountingThreads, statements: list[str]) -> None:
        self._threads = threads
        self._statements = statements
        transport = httpx.ASGITransport(app, client=(f"2001:db8:{uuid4().hex[:4]}:1::1", 50000))
        self.http = httpx.AsyncClient(transport=transport, base_url="http://api", timeout=30)

    async def post(self, path: str, body: dict[str, object]) -> Observed:
        first, hashes = len(self._statements), self._threads.runs
        answer = await self.http.post(path, json=body)
        headers = [(name, re.sub(r";t=\d+", ";t=.", value)) for name, value in sorted(answer.headers.items())]
        headers = [(name, "." if name == "retry-after" else value) for name, value in headers]
        work = Work(self._statements[first:], self._threads.runs - hashes)
        return Observed(answer.status_code, headers, answer.content, work)


@pytest.fixture
async def app(platform: Platform, settings: Settings, tenant: str) -> AsyncIterator[FastAPI]:
    """An API of one tenant; the workers of the platform run its commands."""
    app = create_app(settings.model_copy(update={"default_tenant": tenant}))
    async with app.router.lifespan_context(app):
        yield app


@pytest.fixture
def stranger(app: FastAPI) -> Callable[[], Stranger]:
    """Makes strangers, each at an address that no limit has counted yet."""
    threads, statements = CountingThreads(1, "counted"), list[str]()
    parts = app.state.parts
    parts.passwords.threads.close()
    parts.passwords.threads = threads

    @event.listens_for(parts.database._engine.sync_engine, "before_cursor_execute")
    def count(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    return lambda: Stranger(app, threads, statements)


@pytest.fixture
async def account(stranger: Callable[[], Stranger]) -> dict[str, Any]:
    """The registration of an account."""
    body: dict[str, Any] = registration()
    answer = await stranger().http.post("/api/auth/register", json=body)
    assert answer.status_code == 201, answer.text
    return body


def nobody() -> str:
    """A username that has no account."""
    return f"u{uuid4().hex[:12]}"


def login(name: str) -> dict[str, object]:
    return {"emailOrUsername": name, "password": "not the password"}


REQUESTS: dict[str, tuple[str, Callable[[str], dict[str, object]], int]] = {
    "login by username": ("/api/auth/login", login, 401),
    "login by e-mail": ("/api/auth/login", lambda name: login(f"{name}@example.com"), 401),
    "forgot-password": ("/api/auth/forgot-password", lambda name: {"email": f"{name}@example.com"}, 202),
    "resend-verification": ("/api/auth/resend-verification", lambda name: {"email": f"{name}@example.com"}, 202),
    "register with a password that is too easy": (
        "/api/auth/register",
        lambda name: registration(email=f"{name}@example.com", password="password123"),
        422,
    ),
    "register with an invalid field": (
        "/api/auth/register",
        lambda name: registration(email=f"{name}@example.com", firstName=""),
        422,
    ),
}


@pytest.mark.parametrize("request_", REQUESTS)
async def test_answer_and_work_are_the_same_with_and_without_an_account(
    stranger: Callable[[], Stranger], account: dict[str, Any], request_: str
) -> None:
    """Also when the request is repeated until it is limited."""
    path, body, status = REQUESTS[request_]
    one, other, absent = stranger(), stranger(), nobody()
    # Twice, because the first request of a process does more: it compiles statements and opens connections.
    await stranger().post(path, body(nobody()))

    for attempt in range(7):
        known = await one.post(path, body(account["username"]))
        unknown = await other.post(path, body(absent))

        assert known == unknown
        assert known.status == (status if attempt < 5 or status == 422 else 429)


@pytest.mark.parametrize("state", ["SUSPENDED", "ACTIVE"])
async def test_state_of_an_account_is_not_told_without_its_password(
    stranger: Callable[[], Stranger], account: dict[str, Any], database: Database, tenant: str, state: str
) -> None:
    async with database.transaction(tenant) as tx:
        changed = text("UPDATE user_management.users SET status = :state, email_verified = :verified")
        await tx.execute(changed, {"state": state, "verified": state == "ACTIVE"})

    absent = nobody()
    for name in ("login by e-mail", "forgot-password", "resend-verification"):
        path, body, _ = REQUESTS[name]
        assert await stranger().post(path, body(account["username"])) == await stranger().post(path, body(absent))


async def test_second_factor_is_not_told_without_the_password(
    stranger: Callable[[], Stranger], account: dict[str, Any]
) -> None:
    http = stranger().http
    signed_in = await http.post("/api/auth/login", json={"emailOrUsername": account["email"], "password": PASSWORD})
    app = await enable(http, {"Authorization": f"Bearer {signed_in.json()['accessToken']}"})

    absent = nobody()

    for code in (app.code(1), app.recovery_codes[0], "000000"):
        known, unknown = [
            await stranger().post("/api/auth/login", {**login(name), "code": code})
            for name in (account["username"], absent)
        ]
        assert known == unknown
        assert known.status == 401


@pytest.mark.parametrize(
    ("path", "command"),
    [
        ("/api/auth/forgot-password", "request-password-reset"),
        ("/api/auth/resend-verification", "request-verification"),
    ],
)
async def test_request_for_a_link_starts_one_workflow_with_and_without_an_account(
    stranger: Callable[[], Stranger],
    account: dict[str, Any],
    temporal_client: Client,
    tenant: str,
    path: str,
    command: str,
) -> None:
    started = 0

    async def listed() -> int:
        return (await temporal_client.count_workflows(f"TenantId = '{tenant}' AND WorkflowType = '{command}'")).count

    async def all_are_listed() -> bool:
        return await listed() >= started

    for name in (account["username"], nobody()):
        await stranger().post(path, {"email": f"{name}@example.com"})
        started += 1
        await until(all_are_listed)
        assert await listed() == started


async def test_failed_sign_in_starts_one_workflow_with_and_without_an_account(
    stranger: Callable[[], Stranger], account: dict[str, Any], temporal_client: Client, tenant: str, database: Database
) -> None:
    """It saves the failure about a second later, or nothing; and no other has started once a later one is listed."""
    own = f"TenantId = '{tenant}' AND WorkflowType = 'record-activity'"

    for name in (account["username"], nobody()):
        before = await _settled(stranger, temporal_client, tenant)
        await stranger().post("/api/auth/login", login(name))

        async def started(before: Counter[str] = before) -> bool:
            return (await temporal_client.count_workflows(own)).count > before["record-activity"]

        await until(started)
        assert await _settled(stranger, temporal_client, tenant) == before + Counter(
            {"record-activity": 1, "request-password-reset": 1}
        )

    stored = text("SELECT count(*) FROM user_history.event_store WHERE event_type = 'LOGIN_FAILED'")
    async with database.statements(tenant) as connection:
        assert (await connection.execute(stored)).scalar_one() == 1


async def _settled(stranger: Callable[[], Stranger], client: Client, tenant: str) -> Counter[str]:
    """The workflows that the API has started for the tenant, by type, once a later one is listed."""

    async def started() -> Counter[str]:
        own = f"TenantId = '{tenant}' AND WorkflowType IN ('request-password-reset', 'record-activity')"
        return Counter([workflow.workflow_type async for workflow in client.list_workflows(own)])

    before = (await started())["request-password-reset"]
    await stranger().post("/api/auth/forgot-password", {"email": f"{nobody()}@example.com"})

    async def listed() -> Counter[str] | None:
        found = await started()
        return found if found["request-password-reset"] > before else None

    found = await until(listed)
    assert found is not None
    return found


async def test_registering_tells_that_a_name_is_taken_and_nothing_else(
    stranger: Callable[[], Stranger], account: dict[str, Any]
) -> None:
    http = stranger().http
    for name, kind in (("email", "email-taken"), ("username", "username-taken")):
        answer = await http.post("/api/auth/register", json=registration(**{name: account[name]}))

        problem = assert_problem(answer, kind, name)
        revealed = {value for other, value in account.items() if other != name and str(value) in answer.text}
        assert revealed == set(), problem


async def test_right_password_signs_in_after_all_that(
    stranger: Callable[[], Stranger], account: dict[str, Any]
) -> None:
    """So the answers above are those of a working account."""
    body = {"emailOrUsername": account["email"], "password": PASSWORD}

    assert (await stranger().http.post("/api/auth/login", json=body)).status_code == 200
