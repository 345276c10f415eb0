"""Access tokens of closed sessions are refused by every API process, within a second."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import insert, text

from adapters.postgres import Database
from adapters.settings import Settings
from adapters.tables import sessions
from api import revocations
from api.app import create_app
from api.revocations import Revocations
from domain.roles import UserRole
from domain.user import UserStatus
from domain.user_commands import ChangeRole, ChangeUserStatus
from tests.activities.accounts import Saving
from tests.api.test_contract import assert_problem
from tests.platform import PASSWORD, Person, Platform, until
from tests.samples import new_id

_SECONDS = 5
"""More than the second that is promised, for a machine under load."""


Processes = list[httpx.AsyncClient]


@pytest.fixture
def processes(platform: Platform, second: httpx.AsyncClient) -> Processes:
    return [platform.http, second]


async def reads(process: httpx.AsyncClient, person: Person) -> httpx.Response:
    return await process.get("/api/users/profile", headers=person.headers)


async def assert_refused_by_all(processes: Processes, person: Person) -> None:
    """The access token is refused by every process within some seconds, as that of a closed session."""
    for process in processes:

        async def refused(process: httpx.AsyncClient = process) -> httpx.Response | None:
            answer = await reads(process, person)
            return answer if answer.status_code == 401 else None

        answer = await until(refused, _SECONDS)
        assert answer is not None
        assert_problem(answer, "session-closed")
        assert 'error="invalid_token", error_description="The session is closed"' in answer.headers["www-authenticate"]


async def suspend(saving: Saving, administrator: UUID, person: Person) -> None:
    command: dict[str, Any] = {"command_id": new_id(), "tenant_id": "hyderabad", "issued_at": datetime.now(UTC)}
    await saving.user(
        ChangeUserStatus(**command, user_id=administrator, account_id=UUID(person.id), status=UserStatus.SUSPENDED)
    )


async def become_administrator(saving: Saving, person: Person, tenant: str = "hyderabad") -> None:
    command: dict[str, Any] = {"command_id": new_id(), "tenant_id": tenant, "issued_at": datetime.now(UTC)}
    await saving.user(ChangeRole(**command, user_id=UUID(person.id), role=UserRole.ADMIN))


@pytest.mark.parametrize(
    "closed_by", ["logout", "closing it", "reuse of a refresh token", "new role", "suspension", "new password"]
)
async def test_closed_session_is_refused_by_every_process(
    platform: Platform, processes: Processes, saving: Saving, closed_by: str
) -> None:
    person = await platform.register()
    elsewhere = await platform.login(person)
    http = platform.http

    async def reuse() -> None:
        for _ in range(2):
            await http.post("/api/auth/refresh", json={"refreshToken": person.refresh_token})

    async def by_an_administrator() -> None:
        administrator = await platform.register()
        await become_administrator(saving, administrator)
        await suspend(saving, UUID(administrator.id), person)

    close: dict[str, Callable[[], Awaitable[object]]] = {
        "logout": lambda: http.post("/api/auth/logout", json={"refreshToken": person.refresh_token}),
        "closing it": lambda: http.delete("/api/auth/sessions", headers=elsewhere.headers),
        "reuse of a refresh token": reuse,
        "new role": lambda: become_administrator(saving, person),
        "suspension": by_an_administrator,
        "new password": lambda: http.post(
            "/api/users/password",
            json={"currentPassword": PASSWORD, "newPassword": "staple lamp orbit nine"},
            headers=elsewhere.headers,
        ),
    }
    assert [(await reads(process, person)).status_code for process in processes] == [200, 200]

    await close[closed_by]()

    await assert_refused_by_all(processes, person)
    if closed_by in {"new role", "suspension"}:
        await assert_refused_by_all(processes, elsewhere)
    else:
        assert [(await reads(process, elsewhere)).status_code for process in processes] == [200, 200]


async def test_token_of_a_closed_session_is_refused_where_none_is_required(
    platform: Platform, processes: Processes
) -> None:
    person = await platform.register()
    await platform.http.post("/api/auth/logout", json={"refreshToken": person.refresh_token})
    await assert_refused_by_all(processes, person)

    assert_problem(await platform.http.get("/api/properties", headers=person.headers), "session-closed")
    assert (await platform.http.get("/api/properties")).status_code == 200


async def test_process_that_starts_later_knows_what_was_closed_before(platform: Platform, settings: Settings) -> None:
    person = await platform.register()
    await platform.http.post("/api/auth/logout", json={"refreshToken": person.refresh_token})
    app = create_app(settings)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api") as client,
    ):

        async def ready() -> bool:
            return (await client.get("/readyz")).status_code == 200

        await until(ready)
        assert_problem(await reads(client, person), "session-closed")


async def test_process_is_not_ready_before_it_has_read_the_closed_sessions(settings: Settings) -> None:
    app = create_app(settings)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api") as client,
    ):
        parts = app.state.parts
        await parts.revocations.close()
        app.state.parts = replace(parts, revocations=Revocations(Database.for_all_tenants(settings)))
        before = await client.get("/readyz")
        await app.state.parts.revocations.read()
        after = await client.get("/readyz")

    assert (before.status_code, before.json()["dependencies"]["closedSessions"]) == (503, "unavailable (not read)")
    assert (after.status_code, after.json()["dependencies"]["closedSessions"]) == (200, "reached")


@pytest.fixture
async def known(settings: Settings) -> AsyncIterator[Revocations]:
    """What a process knows that reads when the test says so."""
    known = Revocations(Database.for_all_tenants(settings))
    yield known
    await known.close()


async def closed(
    database: Database, tenant: str, ago: timedelta = timedelta(0), id: UUID | None = None
) -> tuple[str, UUID]:
    """A session of a tenant that was closed some time ago: tenant and id."""
    now, session_id = datetime.now(UTC), id or new_id()
    row = {"tenant_id": tenant, "session_id": session_id, "user_id": new_id()}
    times = {"opened_at": now - timedelta(days=1), "revoked_at": now - ago}
    async with database.statements(tenant) as connection:
        await connection.execute(insert(sessions).values(**row, **times))
    return tenant, session_id


async def test_sessions_of_every_tenant_are_known_while_their_tokens_may_be_valid(
    known: Revocations, database: Database, tenant: str
) -> None:
    fresh, old = await closed(database, tenant), await closed(database, tenant, timedelta(minutes=15, seconds=30))
    elsewhere, too_old = await closed(database, f"{tenant}-2"), await closed(database, tenant, timedelta(minutes=17))

    await known.read()

    assert [one in known for one in (fresh, old, elsewhere, too_old)] == [True, True, True, False]
    assert (tenant, new_id()) not in known


async def test_session_is_closed_in_its_tenant_only(known: Revocations, database: Database, tenant: str) -> None:
    """Another tenant's session of the same id stays open."""
    _, session_id = await closed(database, tenant)
    await closed(database, f"{tenant}-2", timedelta(minutes=17), session_id)

    await known.read()

    assert (tenant, session_id) in known
    assert (f"{tenant}-2", session_id) not in known


async def test_session_whose_closing_is_committed_late_is_found(
    known: Revocations, database: Database, tenant: str
) -> None:
    session_id, now = new_id(), datetime.now(UTC)
    row = {"tenant_id": tenant, "session_id": session_id, "user_id": new_id(), "opened_at": now, "revoked_at": now}
    async with database.transaction(tenant) as tx:
        await tx.execute(insert(sessions).values(**row))
        await known.read()
        assert (tenant, session_id) not in known

    await known.read()

    assert (tenant, session_id) in known


async def test_what_is_known_is_forgotten_when_no_token_can_be_valid(
    known: Revocations, database: Database, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revocations, "_WHOLE_EVERY_SECONDS", 0)
    session = await closed(database, tenant)
    await known.read()
    assert session in known
    async with database.statements(tenant) as connection:
        aged = text("UPDATE user_management.sessions SET revoked_at = now() - interval '17 minutes'")
        await connection.execute(aged)

    await known.read()

    assert session not in known


async def test_without_postgres_what_is_known_stays_refused_and_the_failure_is_logged_once(
    settings: Settings, database: Database, tenant: str, caplog: pytest.LogCaptureFixture
) -> None:
    session, pool = await closed(database, tenant), Database.for_all_tenants(settings)
    known = Revocations(pool)
    await known.read()
    nowhere = settings.model_copy(update={"database_url": "postgresql://hyderabad@127.0.0.1:9/hyderabad"})
    known._database = Database.for_all_tenants(nowhere)

    with caplog.at_level("INFO", logger="api.revocations"):
        for _ in range(3):
            await known.read()
        unavailable = known.is_current
        known._database = pool
        await known.read()

    assert (unavailable, known.is_current) == (False, True)
    assert session in known
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    await known.close()


async def test_reading_goes_on_until_the_process_stops(settings: Settings, database: Database, tenant: str) -> None:
    known = Revocations(Database.for_all_tenants(settings))
    known.start()
    for _ in range(2):
        session = await closed(database, tenant)

        async def is_known(session: tuple[str, UUID] = session) -> bool:
            return session in known

        await until(is_known, _SECONDS)

    await known.close()
    assert known._reading is not None
    assert known._reading.done()
