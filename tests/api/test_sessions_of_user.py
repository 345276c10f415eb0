"""The open sessions of a user: listed, closed by their owner only, and bounded; and sign-ins from new devices."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import jwt
import pytest
from redis.asyncio import Redis
from sqlalchemy import insert, select, text, update

from adapters import user_sessions
from adapters.postgres import Database
from adapters.sealing import Keyring
from adapters.settings import Settings
from adapters.tables import event_store, sessions
from api.errors import ApiError
from api.passwords import Passwords
from api.sessions import Session, Sessions
from api.sign_in_limits import SignInLimits
from tests.activities.accounts import Saving
from tests.api.test_contract import assert_problem
from tests.api.test_sessions import HERE
from tests.platform import PASSWORD, Person, Platform, until
from tests.samples import new_id

PATH = "/api/auth/sessions"
WINDOWS = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/131.0.0.0 Safari/537.36"
ANDROID = "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 Chrome/131.0.0.0 Mobile Safari/537.36"


@pytest.fixture
async def opener(database: Database, keyring: Keyring, valkey: Redis, settings: Settings) -> AsyncIterator[Sessions]:
    """The class with which an API process opens sessions."""
    passwords = Passwords()
    yield Sessions(database, passwords, keyring, SignInLimits(valkey, database, keyring, settings))
    passwords.close()


async def sign_in(platform: Platform, person: Person, user_agent: str = WINDOWS) -> Person:
    body = {"emailOrUsername": person.email, "password": PASSWORD}
    answer = await platform.http.post("/api/auth/login", json=body, headers={"User-Agent": user_agent})
    assert answer.status_code == 200, answer.text
    tokens = answer.json()
    return Person(person.id, person.email, person.username, tokens["accessToken"], tokens["refreshToken"])


async def listed(platform: Platform, person: Person) -> list[dict[str, Any]]:
    answer = await platform.http.get(PATH, headers=person.headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "private, no-store"
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


def session_of(person: Person) -> str:
    session_id: str = jwt.decode(person.access_token, options={"verify_signature": False})["sid"]
    return session_id


async def close(platform: Platform, person: Person, session_id: object) -> httpx.Response:
    return await platform.http.delete(f"{PATH}/{session_id}", headers=person.headers)


async def renewal(platform: Platform, person: Person) -> httpx.Response:
    return await platform.http.post("/api/auth/refresh", json={"refreshToken": person.refresh_token})


async def test_sessions_are_listed_with_their_devices_the_last_seen_first(platform: Platform) -> None:
    registered = await platform.register()
    laptop = await sign_in(platform, registered)
    phone = await sign_in(platform, registered, ANDROID)

    found = await listed(platform, laptop)

    assert [(one["id"], one["device"], one["current"]) for one in found] == [
        (session_of(phone), "Chrome on Android", False),
        (session_of(laptop), "Chrome on Windows", True),
        (session_of(registered), "Python", False),
    ]
    assert all(one["openedAt"] == one["lastSeenAt"] for one in found)
    assert found[0].keys() == {"id", "device", "openedAt", "lastSeenAt", "current"}


async def test_renewal_updates_when_a_session_was_last_seen_and_keeps_its_device(platform: Platform) -> None:
    laptop = await sign_in(platform, await platform.register())
    await sign_in(platform, laptop, ANDROID)
    before = {one["id"]: one for one in await listed(platform, laptop)}

    assert (await renewal(platform, laptop)).status_code == 200

    first, *_ = await listed(platform, laptop)
    assert (first["id"], first["device"]) == (session_of(laptop), "Chrome on Windows")
    assert first["openedAt"] == before[first["id"]]["openedAt"] < first["lastSeenAt"]


async def test_session_is_closed_by_its_owner(platform: Platform) -> None:
    laptop = await sign_in(platform, await platform.register())
    phone = await sign_in(platform, laptop, ANDROID)

    assert (await close(platform, laptop, session_of(phone))).status_code == 204

    assert_problem(await renewal(platform, phone), "invalid-refresh-token")
    assert session_of(phone) not in {one["id"] for one in await listed(platform, laptop)}
    assert_problem(await close(platform, laptop, session_of(phone)), "not-found")
    assert_problem(await close(platform, laptop, "not-an-id"), "invalid-request", "path.session_id")
    assert_problem(await close(platform, laptop, new_id()), "not-found")


async def test_all_other_sessions_are_closed_at_once(platform: Platform) -> None:
    laptop = await sign_in(platform, await platform.register())
    others = [await sign_in(platform, laptop, ANDROID) for _ in range(2)]

    answers = [await platform.http.delete(PATH, headers=laptop.headers) for _repeated in range(2)]

    assert [answer.status_code for answer in answers] == [204, 204]
    assert [one["id"] for one in await listed(platform, laptop)] == [session_of(laptop)]
    for other in others:
        assert_problem(await renewal(platform, other), "invalid-refresh-token")
    assert (await renewal(platform, laptop)).status_code == 200


@pytest.mark.parametrize("host", [None, "second.localhost"])
async def test_sessions_of_others_are_neither_listed_nor_closed(platform: Platform, host: str | None) -> None:
    """Of another user, and of another tenant."""
    person, stranger = await platform.register(), await platform.register(host=host)

    assert [one["id"] for one in await listed(platform, stranger)] == [session_of(stranger)]
    assert_problem(await close(platform, stranger, session_of(person)), "not-found")
    assert (await platform.http.delete(PATH, headers=stranger.headers)).status_code == 204

    assert [one["id"] for one in await listed(platform, person)] == [session_of(person)]
    assert (await renewal(platform, person)).status_code == 200


async def test_sessions_are_closed_in_their_tenant_only(database: Database, tenant: str) -> None:
    """Also if both know the ids: row-level security holds whatever the statement says."""
    user_id, session_id, now = new_id(), new_id(), datetime.now(UTC)
    row = {"tenant_id": tenant, "session_id": session_id, "user_id": user_id, "opened_at": now, "last_seen_at": now}
    async with database.statements(tenant) as connection:
        await connection.execute(insert(sessions).values(**row, device="curl"))

    async with database.statements(f"{tenant}-2") as connection:
        assert await user_sessions.of_user(connection, user_id) == []
        assert not await user_sessions.close(connection, user_id, session_id)
        await user_sessions.close_others(connection, user_id, new_id())
        assert not await user_sessions.is_new_device(connection, user_id, "Chrome on Android")

    async with database.statements(tenant) as connection:
        assert await user_sessions.is_new_device(connection, user_id, "Chrome on Android")
        assert await user_sessions.close(connection, user_id, session_id)


async def test_session_that_can_no_longer_be_renewed_is_not_listed(platform: Platform, database: Database) -> None:
    laptop = await sign_in(platform, await platform.register())
    phone = await sign_in(platform, laptop, ANDROID)
    expire = "UPDATE user_management.refresh_tokens SET expires_at = now() WHERE session_id = :session"
    async with database.statements("hyderabad") as connection:
        await connection.execute(text(expire), {"session": session_of(phone)})

    assert session_of(phone) not in {one["id"] for one in await listed(platform, laptop)}


@pytest.fixture
def most(monkeypatch: pytest.MonkeyPatch) -> int:
    """A smaller number of sessions that a user may have."""
    monkeypatch.setattr(user_sessions, "MOST", 5)
    return 5


async def test_least_recently_seen_session_is_closed_when_there_are_too_many(
    opener: Sessions, saving: Saving, database: Database, tenant: str, most: int
) -> None:
    user_id = await saving.registered(tenant)
    opened = [await opener.begin(tenant, user_id, HERE) for _ in range(most)]
    await opener.renew(tenant, opened[0].refresh_token)

    newest = await opener.begin(tenant, user_id, HERE)

    async with database.statements(tenant) as connection:
        found = [one.id for one in await user_sessions.of_user(connection, user_id)]
        closed = select(sessions.c.session_id).where(sessions.c.revoked_at.is_not(None))
        assert (await connection.execute(closed)).scalars().all() == [opened[1].id]
    assert found == [newest.id, opened[0].id, *(one.id for one in reversed(opened[2:]))]


async def test_sign_ins_and_renewals_at_once_neither_fail_nor_leave_too_many_sessions(
    opener: Sessions, saving: Saving, database: Database, tenant: str, most: int
) -> None:
    user_id = await saving.registered(tenant)
    opened = [await opener.begin(tenant, user_id, HERE) for _ in range(most)]

    outcomes = await asyncio.gather(
        *(opener.begin(tenant, user_id, HERE) for _ in range(8)),
        *(opener.renew(tenant, one.refresh_token) for one in opened[-2:]),
        return_exceptions=True,
    )
    refused = [one for one in outcomes if not isinstance(one, Session)]
    assert all(isinstance(one, ApiError) and one.kind == "invalid-refresh-token" for one in refused), refused
    assert len(refused) <= 2  # renewals of sessions that were closed before
    last = await opener.begin(tenant, user_id, HERE)

    is_open = select(sessions.c.session_id).where(sessions.c.revoked_at.is_(None))
    async with database.statements(tenant) as connection:
        found = set((await connection.execute(is_open)).scalars())
    assert last.id in found
    assert len(found) == most


async def signed_in_events(database: Database, tenant: str, user_id: object) -> list[tuple[str | None, bool]]:
    """Device and newness of the recorded sign-ins of a user, in order."""
    query = select(event_store.c.event_data).where(
        event_store.c.aggregate_id == str(user_id), event_store.c.event_type == "USER_LOGGED_IN"
    )
    async with database.statements(tenant) as connection:
        found = (await connection.execute(query.order_by(event_store.c.timestamp))).scalars()
        return [(data["device"], data["newDevice"]) for data in found]


async def test_sign_in_says_whether_the_device_is_new(platform: Platform, database: Database) -> None:
    person = await platform.register()
    for user_agent in (WINDOWS, ANDROID, WINDOWS, "", ANDROID, "", "Mozilla/5.0"):
        await sign_in(platform, person, user_agent)

    async def recorded() -> list[tuple[str | None, bool]]:
        found = await signed_in_events(database, "hyderabad", person.id)
        return found if len(found) == 7 else []

    assert await until(recorded) == [
        ("Chrome on Windows", True),  # the account was opened from another
        ("Chrome on Android", True),
        ("Chrome on Windows", False),
        (None, True),
        ("Chrome on Android", False),
        (None, False),
        (None, False),
    ]


async def test_owner_gets_a_mail_about_a_sign_in_from_a_new_device_only(platform: Platform) -> None:
    person = await platform.register()
    for user_agent in (WINDOWS, WINDOWS, ANDROID):
        await sign_in(platform, person, user_agent)

    async def mails() -> list[dict[str, Any]]:
        found = await platform.mails(person, "New sign-in")
        return found if len(found) >= 2 else []

    texts = [str(mail) for mail in await until(mails)]
    assert len(texts) == 2
    for device in ("Chrome on Windows", "Chrome on Android"):
        assert sum(device in mail for mail in texts) == 1


async def test_nothing_of_the_header_but_the_label_is_stored(platform: Platform, database: Database) -> None:
    person = await platform.register()
    await sign_in(platform, person, f"Chrome/1 canary-7f3a Windows {person.email}")

    async def recorded() -> list[tuple[str | None, bool]]:
        return await signed_in_events(database, "hyderabad", person.id)

    assert await until(recorded) == [("Chrome on Windows", True)]
    async with database.statements("hyderabad") as connection:
        stored = [
            *(await connection.execute(select(event_store).where(event_store.c.user_id == person.id))),
            *(await connection.execute(select(sessions).where(sessions.c.user_id == UUID(person.id)))),
        ]
    assert len(stored) == 4
    assert "canary" not in str(stored)
    assert person.email not in str(stored)


async def test_device_of_the_registration_is_not_new(platform: Platform, database: Database) -> None:
    person = await platform.login(await platform.register())

    async def recorded() -> list[tuple[str | None, bool]]:
        return await signed_in_events(database, "hyderabad", person.id)

    assert await until(recorded) == [("Python", False)]


async def new_device(opener: Sessions, tenant: str, user_id: UUID, device: str | None) -> bool:
    return (await opener.begin(tenant, user_id, HERE, device)).is_new_device


async def test_first_sign_in_is_not_new(opener: Sessions, saving: Saving, tenant: str) -> None:
    user_id = await saving.registered(tenant)

    assert not await new_device(opener, tenant, user_id, "Chrome on Windows")
    assert await new_device(opener, tenant, user_id, "Firefox on Linux")


async def test_session_that_was_opened_before_devices_were_kept_makes_none_new(
    opener: Sessions, saving: Saving, database: Database, tenant: str
) -> None:
    user_id = await saving.registered(tenant)
    await opener.begin(tenant, user_id, HERE)
    async with database.statements(tenant) as connection:
        await connection.execute(update(sessions).values(last_seen_at=None))

    assert not await new_device(opener, tenant, user_id, "Chrome on Windows")


@pytest.mark.parametrize("attacked", [False, True])
async def test_device_is_known_by_sign_ins_whose_sessions_are_deleted(
    opener: Sessions, saving: Saving, database: Database, tenant: str, attacked: bool
) -> None:
    """Until a thousand other security events have followed."""
    user_id, begun = await saving.registered(tenant), datetime.now(UTC) - timedelta(days=100)

    def row(n: int, event_type: str, device: str) -> dict[str, Any]:
        return {
            "event_id": new_id(),
            "aggregate_id": str(user_id),
            "user_id": str(user_id),
            "event_type": event_type,
            "event_data": {"userId": str(user_id), "device": device},
            "timestamp": begun + timedelta(minutes=n),
            "published_at": begun,
            "version": 0,
            "tenant_id": tenant,
            "schema_version": 1,
            "command_id": new_id(),
        }

    guesses = 1000 if attacked else 10
    rows = [row(0, "USER_LOGGED_IN", "Safari on iPhone")]
    rows += [row(n, "LOGIN_FAILED", "Chrome on Windows") for n in range(1, guesses + 1)]
    async with database.statements(tenant) as connection:
        await connection.execute(insert(event_store), rows)
    await opener.begin(tenant, user_id, HERE, "Firefox on Linux")

    assert await new_device(opener, tenant, user_id, "Safari on iPhone") is attacked
    assert await new_device(opener, tenant, user_id, "Chrome on Windows")
