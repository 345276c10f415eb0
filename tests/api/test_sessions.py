"""Sessions: sign-in, renewal, logout, and reuse of refresh tokens."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from uuid import UUID

import httpx
import pytest
from redis.asyncio import Redis
from sqlalchemy import event, func, text, update
from sqlalchemy.util import await_only

from adapters import redis
from adapters.postgres import Database
from adapters.sealing import Keyring
from adapters.settings import Settings
from adapters.tables import sessions as table
from adapters.tables import users
from api.errors import ApiError
from api.passwords import Passwords
from api.sessions import Session, Sessions
from api.sign_in_limits import SignInLimits
from api.tokens import Tokens
from tests.activities.accounts import Saving
from tests.api.test_contract import assert_problem
from tests.platform import PASSWORD, Platform, registration, until


async def test_registered_user_is_signed_in_and_sees_their_profile(platform: Platform) -> None:
    person = await platform.register(phoneNumber="9848022338", role="BUILDER")

    profile = (await platform.http.get("/api/users/profile", headers=person.headers)).json()

    assert (profile["id"], profile["email"], profile["role"]) == (person.id, person.email, "BUILDER")
    assert (profile["status"], profile["phoneNumber"]) == ("PENDING_VERIFICATION", "+919848022338")
    assert "password" not in str(profile).lower()


async def test_profile_has_the_number_of_properties(platform: Platform) -> None:
    person = await platform.register()

    async def property_count() -> int:
        count: int = (await platform.http.get("/api/users/profile", headers=person.headers)).json()["propertyCount"]
        return count

    assert await property_count() == 0
    for _ in range(2):
        await platform.create(person)

    async def both_are_counted() -> bool:
        return await property_count() == 2

    await until(both_are_counted)


@pytest.mark.parametrize("name", ["email", "username", "upper-case email"])
async def test_sign_in_by_email_or_username(platform: Platform, name: str) -> None:
    person = await platform.register()
    typed = {"email": person.email, "username": person.username, "upper-case email": person.email.upper()}[name]

    answer = await platform.http.post("/api/auth/login", json={"emailOrUsername": typed, "password": PASSWORD})

    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json()
    assert body.keys() == {"accessToken", "refreshToken", "tokenType", "expiresIn", "user"}
    assert body["user"]["lastLogin"] is not None


async def test_wrong_password_and_unknown_name_get_the_same_problem(platform: Platform) -> None:
    person = await platform.register()
    tries = [(person.email, "wrong password"), ("anonymous@example.com", PASSWORD)]

    answers = [
        await platform.http.post("/api/auth/login", json={"emailOrUsername": name, "password": password})
        for name, password in tries
    ]

    assert_problem(answers[0], "invalid-credentials")
    assert answers[0].json() == answers[1].json()


async def test_refresh_token_works_once_and_its_reuse_closes_the_session(platform: Platform) -> None:
    person = await platform.register()
    other_device = (
        await platform.http.post("/api/auth/login", json={"emailOrUsername": person.email, "password": PASSWORD})
    ).json()

    async def renew(token: str) -> object:
        return await platform.http.post("/api/auth/refresh", json={"refreshToken": token})

    renewed = await renew(person.refresh_token)
    assert renewed.status_code == 200  # type: ignore[attr-defined]
    newer = renewed.json()["refreshToken"]  # type: ignore[attr-defined]
    assert newer != person.refresh_token

    assert_problem(await renew(person.refresh_token), "refresh-token-reused")  # type: ignore[arg-type]
    assert_problem(await renew(newer), "invalid-refresh-token")  # type: ignore[arg-type]
    assert (await renew(other_device["refreshToken"])).status_code == 200  # type: ignore[attr-defined]


async def test_refresh_token_used_twice_concurrently_works_once(platform: Platform) -> None:
    person = await platform.register()

    answers = await asyncio.gather(
        *(platform.http.post("/api/auth/refresh", json={"refreshToken": person.refresh_token}) for _ in range(5))
    )

    assert sorted(answer.status_code for answer in answers) == [200, 401, 401, 401, 401]


USING = "UPDATE user_management.refresh_tokens"
STORING = "INSERT INTO user_management.refresh_tokens"

HERE = "192.0.2.1"


@asynccontextmanager
async def paused(
    settings: Settings,
    operator: Database,
    tenant: str,
    call: Callable[[Sessions], Coroutine[object, object, Session]],
    before: str = STORING,
) -> AsyncIterator["Paused"]:
    """Start a call that opens or renews a session and pauses before it uses the token or stores the next one."""
    database = Database.for_tenants(settings.model_copy(update={"database_pool_size": 1}))
    async with database.statements(tenant) as connection:
        pid = (await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one()
    held, go_on = asyncio.Event(), asyncio.Event()

    @event.listens_for(database._engine.sync_engine, "before_cursor_execute")
    def hold(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if before in statement:
            held.set()
            await_only(go_on.wait())

    passwords, keyring, client = Passwords(), Keyring(settings.secret_bytes), redis.connect(settings)
    sign_ins = SignInLimits(client, database, keyring, settings)
    running = asyncio.create_task(call(Sessions(database, passwords, keyring, sign_ins)))

    async def is_held() -> bool:
        return held.is_set() or running.done()

    await until(is_held)
    yield Paused(operator, pid, running, go_on)
    passwords.close()
    await client.aclose()
    await database.close()


class Paused:
    """A paused call."""

    def __init__(self, operator: Database, pid: int, running: asyncio.Task[Session], go_on: asyncio.Event) -> None:
        self._operator = operator
        self._pid = pid
        self._running = running
        self._go_on = go_on

    async def races(self, other: Coroutine[object, object, object]) -> tuple[object, object]:
        """Run `other`, continue the paused call once `other` is done or blocked by it; returns both outcomes."""
        other_task = asyncio.create_task(other)
        blocked = text("SELECT count(*) FROM pg_locks WHERE NOT granted AND :pid = ANY(pg_blocking_pids(pid))")

        async def done_or_waiting() -> bool:
            async with self._operator.statements() as connection:
                return other_task.done() or (await connection.execute(blocked, {"pid": self._pid})).scalar_one() > 0

        await until(done_or_waiting)
        self._go_on.set()
        return await asyncio.gather(self._running, other_task, return_exceptions=True)


@pytest.fixture
async def sessions(database: Database, keyring: Keyring, valkey: Redis, settings: Settings) -> AsyncIterator[Sessions]:
    passwords = Passwords()
    yield Sessions(database, passwords, keyring, SignInLimits(valkey, database, keyring, settings))
    passwords.close()


@pytest.fixture
async def person(saving: Saving, tenant: str) -> UUID:
    return await saving.registered(tenant)


async def refusal(renewal: Coroutine[object, object, Session]) -> str:
    with pytest.raises(ApiError) as refused:
        await renewal
    return refused.value.kind


async def suspend(database: Database, tenant: str, person: UUID) -> None:
    """Suspend a user and close their sessions, in one transaction."""
    async with database.transaction(tenant) as tx:
        await tx.execute(update(users).where(users.c.user_id == person).values(status="SUSPENDED"))
        await tx.execute(update(table).where(table.c.user_id == person).values(revoked_at=func.now()))


async def reinstate(database: Database, tenant: str, person: UUID) -> None:
    async with database.statements(tenant) as connection:
        await connection.execute(update(users).where(users.c.user_id == person).values(status="ACTIVE"))


@pytest.mark.parametrize(
    ("closed_by", "outcome"),
    [
        ("logout", None),
        ("reuse of an older token", "refresh-token-reused"),
        ("reuse of the token", "refresh-token-reused"),
        ("suspension", None),
    ],
)
async def test_renewal_does_not_keep_a_session_that_is_closed_meanwhile(
    settings: Settings,
    sessions: Sessions,
    database: Database,
    all_tenants: Database,
    tenant: str,
    person: UUID,
    closed_by: str,
    outcome: str | None,
) -> None:
    older = (await sessions.begin(tenant, person, HERE)).refresh_token
    token = (await sessions.renew(tenant, older)).refresh_token
    closing: dict[str, Callable[[], Coroutine[object, object, object]]] = {
        "logout": lambda: sessions.end(tenant, token),
        "reuse of an older token": lambda: sessions.renew(tenant, older),
        "reuse of the token": lambda: sessions.renew(tenant, token),
        "suspension": lambda: suspend(database, tenant, person),
    }

    async with paused(settings, all_tenants, tenant, lambda sessions: sessions.renew(tenant, token)) as renewal:
        renewed, other = await renewal.races(closing[closed_by]())
    await reinstate(database, tenant, person)

    assert isinstance(renewed, Session)
    assert (other.kind if isinstance(other, ApiError) else other) == outcome
    assert await refusal(sessions.renew(tenant, renewed.refresh_token)) == "invalid-refresh-token"


async def test_session_that_is_opened_during_a_suspension_does_not_outlive_it(
    settings: Settings, sessions: Sessions, database: Database, all_tenants: Database, tenant: str, person: UUID
) -> None:
    async with paused(settings, all_tenants, tenant, lambda sessions: sessions.begin(tenant, person, HERE)) as opening:
        opened, suspended = await opening.races(suspend(database, tenant, person))
    await reinstate(database, tenant, person)

    assert isinstance(opened, Session)
    assert suspended is None
    assert await refusal(sessions.renew(tenant, opened.refresh_token)) == "invalid-refresh-token"


async def test_sign_in_during_a_renewal_succeeds(
    settings: Settings, sessions: Sessions, all_tenants: Database, tenant: str, person: UUID
) -> None:
    token = (await sessions.begin(tenant, person, HERE)).refresh_token

    async with paused(settings, all_tenants, tenant, lambda sessions: sessions.renew(tenant, token)) as renewal:
        renewed, opened = await renewal.races(sessions.begin(tenant, person, HERE))

    for session in (renewed, opened):
        assert isinstance(session, Session)
        assert (await sessions.renew(tenant, session.refresh_token)).user.id == person


async def test_refresh_token_that_expires_while_it_is_used_is_deleted_without_a_deadlock(
    settings: Settings, sessions: Sessions, database: Database, all_tenants: Database, tenant: str, person: UUID
) -> None:
    token = (await sessions.begin(tenant, person, HERE)).refresh_token

    async with paused(settings, all_tenants, tenant, lambda sessions: sessions.renew(tenant, token), USING) as renewal:
        async with database.statements(tenant) as connection:
            await connection.execute(text("UPDATE user_management.refresh_tokens SET expires_at = now()"))
        refused, opened = await renewal.races(sessions.begin(tenant, person, HERE))

    assert isinstance(refused, ApiError)
    assert refused.kind == "invalid-refresh-token"
    assert isinstance(opened, Session)


async def test_refresh_token_is_refused_after_logout(platform: Platform) -> None:
    person = await platform.register()

    left = await platform.http.post("/api/auth/logout", json={"refreshToken": person.refresh_token})
    renewed = await platform.http.post("/api/auth/refresh", json={"refreshToken": person.refresh_token})

    assert left.status_code == 204
    assert_problem(renewed, "invalid-refresh-token")


async def test_unknown_refresh_token_is_refused(platform: Platform) -> None:
    answer = await platform.http.post("/api/auth/refresh", json={"refreshToken": "made-up"})

    assert_problem(answer, "invalid-refresh-token")


async def test_expired_sessions_are_deleted_at_the_next_sign_in(platform: Platform, database: Database) -> None:
    person = await platform.register()
    of_person = {"id": person.id}
    expire = "UPDATE user_management.refresh_tokens SET expires_at = now() - interval '1 second' WHERE user_id = :id"
    count = """
        SELECT (SELECT count(*) FROM user_management.refresh_tokens WHERE user_id = :id) AS tokens,
               (SELECT count(*) FROM user_management.sessions WHERE user_id = :id) AS sessions
    """
    async with database.transaction("hyderabad") as tx:
        await tx.execute(text(expire), of_person)

    refused = await platform.http.post("/api/auth/refresh", json={"refreshToken": person.refresh_token})
    await platform.http.post("/api/auth/login", json={"emailOrUsername": person.email, "password": PASSWORD})

    assert_problem(refused, "invalid-refresh-token")
    async with database.transaction("hyderabad") as tx:
        assert (await tx.execute(text(count), of_person)).one() == (1, 1)


async def test_suspended_account_cannot_sign_in_renew_or_list(platform: Platform, database: Database) -> None:
    person = await platform.register()
    async with database.transaction("hyderabad") as tx:
        await tx.execute(
            text("UPDATE user_management.users SET status = 'SUSPENDED' WHERE user_id = :id"), {"id": person.id}
        )

    login = await platform.http.post("/api/auth/login", json={"emailOrUsername": person.email, "password": PASSWORD})
    renewed = await platform.http.post("/api/auth/refresh", json={"refreshToken": person.refresh_token})
    profile = await platform.http.get("/api/users/profile", headers=person.headers)

    for answer in (login, renewed, profile):
        assert_problem(answer, "account-closed")
    assert_problem(await platform.create(person), "account-closed")


async def test_password_guessing_is_limited(platform: Platform) -> None:
    person = await platform.register()

    async def guess(password: str) -> httpx.Response:
        return await platform.http.post("/api/auth/login", json={"emailOrUsername": person.email, "password": password})

    answers = [await guess("guess") for _ in range(5)]
    refused = await guess(PASSWORD)

    assert [answer.status_code for answer in answers] == [401] * 5
    assert_problem(refused, "too-many-requests")
    assert 1 <= int(refused.headers["retry-after"]) <= 30


async def test_published_key_verifies_the_tokens(platform: Platform, stack: object) -> None:
    import jwt

    person = await platform.register()
    [key] = (await platform.http.get("/.well-known/jwks.json")).json()["keys"]

    claims = jwt.decode(person.access_token, jwt.PyJWK(key).key, algorithms=["EdDSA"], audience="hyderabad-infra-api")

    assert (claims["sub"], claims["tenant"]) == (person.id, "hyderabad")
    assert Tokens(stack.env["JWT_PRIVATE_KEY"].encode()).key_id == key["kid"]  # type: ignore[attr-defined]


async def test_accounts_of_host_names_are_separate(platform: Platform) -> None:
    names = registration()
    here = await platform.http.post("/api/auth/register", json=names)
    there = await platform.http.post("/api/auth/register", json=names, headers={"Host": "second.localhost"})
    token = {"Authorization": f"Bearer {here.json()['accessToken']}"}

    assert (here.status_code, there.status_code) == (201, 201)
    crossed = await platform.http.get("/api/users/profile", headers={**token, "Host": "second.localhost"})
    assert_problem(crossed, "invalid-token")


async def test_no_route_returns_resources_of_another_tenant(platform: Platform) -> None:
    mine = await platform.register()
    created = await platform.create(mine)
    stranger = await platform.register(host="second.localhost")
    listing_id, command_id = created.json()["id"], created.headers["command-id"]

    for path in (
        f"/api/properties/{listing_id}",
        f"/api/properties/{listing_id}/history",
        f"/api/user-history/{mine.id}",
        f"/api/commands/{command_id}",
    ):
        assert_problem(await platform.http.get(path, headers=stranger.headers), "not-found")
    anonymous = await platform.http.get(f"/api/properties/{listing_id}", headers={"Host": "second.localhost"})
    assert_problem(anonymous, "not-found")
    login = await platform.http.post(
        "/api/auth/login",
        json={"emailOrUsername": mine.email, "password": PASSWORD},
        headers={"Host": "second.localhost"},
    )
    assert_problem(login, "invalid-credentials")
    renewed = await platform.http.post(
        "/api/auth/refresh", json={"refreshToken": mine.refresh_token}, headers={"Host": "second.localhost"}
    )
    assert_problem(renewed, "invalid-refresh-token")
