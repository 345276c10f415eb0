"""Security events of an account: recorded, listed for its owner and administrators, and for nobody else."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, get_args
from uuid import UUID

import asyncpg
import httpx
from sqlalchemy import text

from adapters import security_events
from adapters.event_store import event_row, mark_published
from adapters.postgres import Database, write_rows
from adapters.sealing import Keyring
from adapters.settings import Settings
from adapters.tables import SECURITY_EVENTS
from api.security_events import SecurityEventType
from domain.events import Event
from domain.roles import UserRole
from domain.user import User, UserStatus
from domain.user_commands import AddPasskey, ChangeUserStatus, RemovePasskey
from tests.activities.accounts import Saving
from tests.activities.test_accounts import on
from tests.api.test_contract import assert_problem
from tests.api.test_push import api
from tests.api.test_revocations import become_administrator, suspend
from tests.api.test_sessions_of_user import ANDROID, WINDOWS, renewal, session_of, sign_in
from tests.platform import PASSWORD, Person, Platform, registration, until
from tests.samples import event_of_each_kind, new_id

OWN = "/api/users/profile/security-events"
REGISTERED: dict[str, Any] = {
    "version": 1,
    "username": "ravi",
    "email": "ravi@example.com",
    "first_name": "Ravi",
    "last_name": "Kumar",
    "role": UserRole.USER,
    "status": UserStatus.ACTIVE,
    "created_at": datetime.now(UTC),
    "updated_at": datetime.now(UTC),
}
Items = list[dict[str, Any]]


def of(person: Person | str) -> str:
    return f"/api/users/{person.id if isinstance(person, Person) else person}/security-events"


async def read(platform: Platform, person: Person, path: str = OWN, **parameters: Any) -> httpx.Response:
    return await platform.http.get(path, params=parameters, headers=person.headers)


async def events(platform: Platform, person: Person, count: int, path: str = OWN) -> Items:
    """The events of an account, once there are `count`."""

    async def all_are_there() -> Items:
        answer = await read(platform, person, path)
        assert answer.status_code == 200, answer.text
        items: Items = answer.json()["items"]
        return items if len(items) >= count else []

    found = await until(all_are_there)
    assert len(found) == count, found
    return found


async def administrator(platform: Platform, saving: Saving, tenant: str = "hyderabad") -> Person:
    host = None if tenant == "hyderabad" else f"{tenant}.localhost"
    person = await platform.register(host=host)
    await become_administrator(saving, person, tenant)
    return await platform.login(person, host)


async def store(database: Database, keyring: Keyring, tenant: str, stored: Sequence[Event]) -> None:
    """Store events as if commands and requests had caused them."""
    key = keyring.new_wrapped_key()
    async with database.statements(tenant) as connection:
        for event in stored:
            await write_rows(connection, [event_row(event, keyring.seal(event.data, key, event.event_id))])
        await mark_published(connection, [event.event_id for event in stored])


async def guess(platform: Platform, name: str, user_agent: str = ANDROID) -> None:
    body = {"emailOrUsername": name, "password": "not the password"}
    answer = await platform.http.post("/api/auth/login", json=body, headers={"User-Agent": user_agent})
    assert_problem(answer, "invalid-credentials")


async def test_owner_sees_sign_ins_and_failed_ones_with_their_devices(platform: Platform) -> None:
    person = await platform.register()
    laptop = await sign_in(platform, person, WINDOWS)
    await guess(platform, person.email)
    await guess(platform, person.username, "an unknown browser")

    found = await events(platform, laptop, 3)

    assert [(one["type"], one["device"], one["newDevice"], one["sessionId"]) for one in found] == [
        ("LOGIN_FAILED", None, None, None),
        ("LOGIN_FAILED", "Chrome on Android", None, None),
        ("USER_LOGGED_IN", "Chrome on Windows", True, session_of(laptop)),
    ]
    assert {one["userId"] for one in found} == {person.id}
    assert sorted((one["at"] for one in found), reverse=True) == [one["at"] for one in found]
    assert (await read(platform, laptop)).headers["cache-control"] == "private, no-store"


async def test_repeated_registration_is_a_sign_in_with_its_device(platform: Platform) -> None:
    body, key = registration(), {"Idempotency-Key": str(new_id())}
    first, again = [
        (await platform.http.post("/api/auth/register", json=body, headers={**key, "User-Agent": device})).json()
        for device in (WINDOWS, ANDROID)
    ]
    headers = {"Authorization": f"Bearer {again['accessToken']}"}
    assert first["user"]["id"] == again["user"]["id"]

    async def found() -> Items:
        items: Items = (await platform.http.get(OWN, headers=headers)).json()["items"]
        return items

    [event] = await until(found)
    assert (event["type"], event["device"], event["newDevice"]) == ("USER_LOGGED_IN", "Chrome on Android", True)


async def test_failed_sign_in_is_in_the_history_of_the_account(platform: Platform) -> None:
    person = await platform.register()
    await guess(platform, person.email)

    async def entries() -> Items:
        return [one for one in await platform.history(person) if one["activityType"] == "LOGIN_FAILED"]

    [entry] = await until(entries)
    assert (entry["description"], entry["activityData"]) == (
        "Login to the account failed",
        {"device": "Chrome on Android"},
    )


async def test_right_password_of_a_suspended_account_and_refused_attempts_are_no_failures(
    platform: Platform, database: Database
) -> None:
    person = await platform.register()
    async with database.statements("hyderabad") as connection:
        suspended = text("UPDATE user_management.users SET status = 'SUSPENDED' WHERE user_id = :user")
        await connection.execute(suspended, {"user": person.id})
    body = {"emailOrUsername": person.email, "password": PASSWORD}
    assert_problem(await platform.http.post("/api/auth/login", json=body), "account-closed")
    for _ in range(5):
        await guess(platform, person.email)
    assert_problem(await platform.http.post("/api/auth/login", json=body), "too-many-requests")

    assert {one["type"] for one in await events(platform, person, 5)} == {"LOGIN_FAILED"}


async def test_reuse_of_a_refresh_token_is_recorded_once_for_its_session(platform: Platform) -> None:
    person = await sign_in(platform, await platform.register(), WINDOWS)
    assert (await renewal(platform, person)).status_code == 200
    for _ in range(3):
        assert_problem(await renewal(platform, person), "refresh-token-reused")
    elsewhere = await sign_in(platform, person, WINDOWS)

    found = await events(platform, elsewhere, 3)

    assert [(one["type"], one["sessionId"]) for one in found] == [
        ("USER_LOGGED_IN", session_of(elsewhere)),
        ("REFRESH_TOKEN_REUSED", session_of(person)),
        ("USER_LOGGED_IN", session_of(person)),
    ]


async def test_changes_of_role_and_status_say_from_what_to_what_and_by_whom(platform: Platform, saving: Saving) -> None:
    admin, person = await administrator(platform, saving), await platform.register()
    await become_administrator(saving, person)
    await suspend(saving, UUID(admin.id), person)

    suspended, promoted = await events(platform, admin, 2, of(person))

    assert (promoted["type"], promoted["fromRole"], promoted["toRole"]) == ("USER_ROLE_CHANGED", "USER", "ADMIN")
    assert (suspended["type"], suspended["fromStatus"], suspended["toStatus"], suspended["userId"]) == (
        "USER_STATUS_CHANGED",
        "PENDING_VERIFICATION",
        "SUSPENDED",
        admin.id,
    )
    assert promoted["fromStatus"] is promoted["device"] is suspended["toRole"] is None


async def test_every_security_event_is_listed_and_nothing_else_newest_first(
    database: Database, keyring: Keyring, settings: Settings, tenant: str
) -> None:
    """Also of an account that was erased, whose personal data nobody can decrypt."""
    user_id = new_id()
    stored = [one for one in event_of_each_kind(tenant, user_id, new_id()) if one.aggregate_id == user_id]
    await store(database, keyring, tenant, stored)

    async with api(settings) as (client, app):
        user = User(id=user_id, **REGISTERED)
        token = app.state.parts.tokens.issue(tenant, user, new_id())
        found = (await client.get(OWN, headers={"Authorization": f"Bearer {token}"})).json()["items"]

    expected = [one for one in reversed(stored) if one.event_type in SECURITY_EVENTS]
    assert [one["id"] for one in found] == [str(one.event_id) for one in expected]
    assert len(found) == len(SECURITY_EVENTS)
    by_type = {one["type"]: one for one in found}
    assert by_type["USER_PASSKEY_ADDED"]["passkey"] is by_type["USER_PASSKEY_REMOVED"]["passkey"] is None
    assert "ravi" not in str(found).lower()


async def test_name_of_a_passkey_and_reason_of_a_status_are_stored_encrypted_and_the_name_is_shown(
    platform: Platform, database: Database, saving: Saving
) -> None:
    admin, person = await administrator(platform, saving), await platform.register()
    key = {"credential_id": new_id().hex, "public_key": "a2V5", "sign_count": 0, "name": "Lakshmi's telephone"}
    passkey_id, user_id = new_id(), UUID(person.id)
    await saving.user(on("hyderabad", user_id, AddPasskey, passkey_id=passkey_id, **key))
    await saving.user(on("hyderabad", user_id, RemovePasskey, passkey_id=passkey_id))
    of_admin = {"account_id": user_id, "status": UserStatus.SUSPENDED, "reason": "Lakshmi asked for it."}
    await saving.user(on("hyderabad", UUID(admin.id), ChangeUserStatus, **of_admin))

    suspended, removed, added = await events(platform, admin, 3, of(person))

    assert (added["passkey"], removed["passkey"], suspended["passkey"]) == (*["Lakshmi's telephone"] * 2, None)
    query = text("SELECT event_data::text FROM user_history.event_store WHERE aggregate_id = :user")
    async with database.statements("hyderabad") as connection:
        stored = (await connection.execute(query, {"user": person.id})).scalars().all()
    assert len(stored) == 4
    assert "Lakshmi" not in "".join(stored)


def test_listed_types_are_those_of_the_index() -> None:
    assert get_args(SecurityEventType) == SECURITY_EVENTS


async def test_pages_follow_each_other_without_gaps(platform: Platform, database: Database, keyring: Keyring) -> None:
    person = await platform.register()
    stored = [
        one
        for _ in range(3)
        for one in event_of_each_kind("hyderabad", UUID(person.id), new_id())
        if one.event_type in {"USER_LOGGED_IN", "LOGIN_FAILED", "REFRESH_TOKEN_REUSED"}
    ]
    stored[1] = stored[1].model_copy(update={"timestamp": stored[0].timestamp})  # then the id decides
    await store(database, keyring, "hyderabad", stored)

    found: Items = []
    parameters: dict[str, Any] = {"limit": 2}
    while True:
        page = (await read(platform, person, **parameters)).json()
        found += page["items"]
        if page["nextCursor"] is None:
            break
        parameters["cursor"] = page["nextCursor"]

    newest_first = sorted(stored, key=lambda one: (one.timestamp, one.event_id), reverse=True)
    assert [one["id"] for one in found] == [str(one.event_id) for one in newest_first]
    assert len(page["items"]) == 1


async def test_cursor_is_for_one_account(platform: Platform, saving: Saving) -> None:
    admin = await administrator(platform, saving)
    person = await sign_in(platform, await platform.register())
    await sign_in(platform, person)
    await events(platform, person, 2)
    cursor = (await read(platform, person, limit=1)).json()["nextCursor"]

    assert (await read(platform, admin, of(person), cursor=cursor)).status_code == 200
    assert_problem(await read(platform, admin, cursor=cursor), "invalid-cursor")
    assert_problem(
        await read(platform, person, cursor=("B" if cursor[0] == "A" else "A") + cursor[1:]), "invalid-cursor"
    )
    assert_problem(await read(platform, person, limit=101), "invalid-request", "query.limit")


async def test_events_of_others_are_not_found(platform: Platform, saving: Saving) -> None:
    person, stranger = await sign_in(platform, await platform.register()), await platform.register()
    await events(platform, person, 1)
    elsewhere = await administrator(platform, saving, "second")

    for reader in (stranger, elsewhere):
        assert_problem(await read(platform, reader, of(person)), "not-found")
    admin = await administrator(platform, saving)
    assert (await read(platform, admin, of(person))).json() == (await read(platform, person, of(person))).json()
    assert_problem(await read(platform, admin, of(str(new_id()))), "not-found")
    assert (await read(platform, admin, of(stranger))).json()["items"] == []
    assert_problem(await platform.http.get(OWN), "unauthenticated")


async def test_events_are_of_one_tenant(database: Database, keyring: Keyring, tenant: str) -> None:
    """Also for an account id that another tenant has."""
    user_id = new_id()
    stored = [one for one in event_of_each_kind(tenant, user_id, new_id()) if one.event_type == "USER_LOGGED_IN"]
    await store(database, keyring, tenant, stored)

    for name, count in ((tenant, 1), (f"{tenant}-2", 0)):
        async with database.statements(name) as connection:
            assert len(await security_events.of_account(connection, user_id, cursor=None, limit=10)) == count


async def test_event_that_cannot_be_read_is_left_out(
    platform: Platform, database: Database, keyring: Keyring, settings: Settings
) -> None:
    person = await sign_in(platform, await platform.register())
    kinds = event_of_each_kind("hyderabad", UUID(person.id), new_id())
    [event] = [one for one in kinds if one.event_type == "LOGIN_FAILED"]
    await store(database, keyring, "hyderabad", [event])
    await events(platform, person, 2)
    owner = await asyncpg.connect(settings.database_url)
    spoil = "UPDATE user_history.event_store SET schema_version = $2 WHERE event_id = $1"
    await owner.execute(spoil, event.event_id, 99)
    try:
        [found] = await events(platform, person, 1)
        assert found["type"] == "USER_LOGGED_IN"
    finally:
        await owner.execute(spoil, event.event_id, 1)  # all tests share the store
        await owner.close()
