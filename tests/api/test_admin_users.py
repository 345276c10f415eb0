"""The accounts of a tenant over HTTP, for its administrators: lists, roles and statuses."""

import asyncio
from typing import Any
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import text

from adapters.postgres import Database
from tests.api.test_contract import assert_problem
from tests.platform import PASSWORD, Person, Platform
from tests.samples import new_id

SECOND = "second.localhost"
CHANGES: dict[str, Any] = {"role": {"role": "AGENT"}, "status": {"status": "SUSPENDED", "reason": "Spam"}}


async def sign_in(platform: Platform, person: Person, host: str = "localhost") -> httpx.Response:
    credentials = {"emailOrUsername": person.email, "password": PASSWORD}
    return await platform.http.post("/api/auth/login", json=credentials, headers={"Host": host})


async def set_role(database: Database, person: Person, role: str, tenant: str = "hyderabad") -> None:
    """Change a role in the database alone: sessions and access tokens stay as they are."""
    async with database.statements(tenant) as connection:
        change = text("UPDATE user_management.users SET role = :role WHERE user_id = :id")
        await connection.execute(change, {"role": role, "id": person.id})


async def administrator(
    platform: Platform, database: Database, host: str = "localhost", tenant: str = "hyderabad"
) -> Person:
    person = await platform.register(host=host)
    await set_role(database, person, "ADMIN", tenant)
    body = (await sign_in(platform, person, host)).json()
    return Person(person.id, person.email, person.username, body["accessToken"], body["refreshToken"])


@pytest.fixture(scope="module")
async def admin(platform: Platform, database: Database) -> Person:
    return await administrator(platform, database)


async def users(platform: Platform, admin: Person, **query: object) -> httpx.Response:
    return await platform.http.get(
        "/api/users", params={name: str(value) for name, value in query.items()}, headers=admin.headers
    )


async def walk(platform: Platform, admin: Person, **query: object) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    cursor: dict[str, object] = {}
    while True:
        answer = await users(platform, admin, **query, **cursor)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        items += page["items"]
        if page["nextCursor"] is None:
            return items
        cursor = {"cursor": page["nextCursor"]}


async def profile(platform: Platform, admin: Person, person: Person) -> dict[str, Any]:
    answer = await platform.http.get(f"/api/users/{person.id}", headers=admin.headers)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def change(
    platform: Platform, admin: Person, account: object, what: str, body: Any = None, **more: Any
) -> httpx.Response:
    return await platform.change(admin, "PUT", f"/api/users/{account}/{what}", body or CHANGES[what], **more)


async def test_administrator_lists_and_finds_accounts(platform: Platform, admin: Person) -> None:
    name = f"s{uuid4().hex[:10]}"
    people = [await platform.register(username=f"{name}{n}", lastName="Reddy", phoneNumber=None) for n in range(3)]

    found = await walk(platform, admin, search=name.upper(), limit=2)

    assert [item["id"] for item in found] == [person.id for person in people[::-1]]
    [item] = await walk(platform, admin, search=people[0].email)
    account = await profile(platform, admin, people[0])
    assert item == {name: account[name] for name in item}
    assert item.keys() == {
        *("id", "version", "username", "email", "firstName", "lastName", "role", "status", "emailVerified"),
        *("secondFactor", "createdAt", "lastLogin"),
    }
    assert (await users(platform, admin)).headers["cache-control"] == "private, no-store"
    assert len((await users(platform, admin, limit=2)).json()["items"]) == 2


async def test_filters_are_of_role_and_status(platform: Platform, admin: Person) -> None:
    name = f"f{uuid4().hex[:10]}"
    agent = await platform.register(username=f"{name}1", role="AGENT")
    user = await platform.register(username=f"{name}2")
    assert (await change(platform, admin, user.id, "status")).status_code == 200

    for query, expected in (
        ({"role": "AGENT"}, [agent.id]),
        ({"status": "SUSPENDED"}, [user.id]),
        ({"status": "PENDING_VERIFICATION"}, [agent.id]),
        ({"role": "AGENT", "status": "SUSPENDED"}, []),
        ({}, [user.id, agent.id]),
    ):
        found = await walk(platform, admin, search=name, **query)
        assert [item["id"] for item in found] == expected
    assert admin.id in {item["id"] for item in await walk(platform, admin, role="ADMIN", limit=100)}


async def test_account_has_an_etag(platform: Platform, admin: Person) -> None:
    person = await platform.register(phoneNumber="9848022338")

    answer = await platform.http.get(f"/api/users/{person.id}", headers=admin.headers)

    assert (answer.headers["etag"], answer.headers["cache-control"]) == ('"1"', "private, no-store")
    assert (answer.json()["email"], answer.json()["phoneNumber"]) == (person.email, "+919848022338")
    unwanted = await platform.http.get(f"/api/users/{person.id}", headers={**admin.headers, "If-None-Match": "*"})
    assert (unwanted.status_code, unwanted.content, unwanted.headers["etag"]) == (304, b"", '"1"')


async def test_others_are_refused(platform: Platform, admin: Person) -> None:
    person, other = await platform.register(role="AGENT"), await platform.register()

    for path in ("/api/users", f"/api/users/{other.id}", f"/api/users/{person.id}", f"/api/users/{new_id()}"):
        assert_problem(await platform.http.get(path, headers=person.headers), "forbidden")
        assert_problem(await platform.http.get(path), "unauthenticated")
    for what in CHANGES:
        for account in (other.id, person.id, new_id()):
            assert_problem(await change(platform, person, account, what), "forbidden")
        path = f"/api/users/{other.id}/{what}"
        assert_problem(await platform.http.put(path, json=CHANGES[what], headers={"If-Match": "*"}), "unauthenticated")
    assert (await profile(platform, admin, other))["version"] == 1


@pytest.mark.parametrize("search", ["", " ", "x" * 255, "\x00", "a\nb"])
async def test_search_that_no_account_can_match_is_refused(platform: Platform, admin: Person, search: str) -> None:
    assert_problem(await users(platform, admin, search=search), "invalid-request", "query.search")


async def test_invalid_queries_are_refused(platform: Platform, admin: Person) -> None:
    for query, field in (
        ({"limit": 0}, "query.limit"),
        ({"limit": 101}, "query.limit"),
        ({"role": "KING"}, "query.role"),
        ({"status": "DELETED"}, "query.status"),
        ({"cursor": "x" * 201}, "query.cursor"),
        ({"name": "ravi"}, "query.name"),
    ):
        assert_problem(await users(platform, admin, **query), "invalid-request", field)
    assert_problem(await users(platform, admin, cursor="bm90IG91cnM"), "invalid-cursor")


async def test_cursor_is_of_one_list(platform: Platform, database: Database, admin: Person) -> None:
    await platform.register()
    cursor = (await users(platform, admin, limit=1)).json()["nextCursor"]
    assert cursor

    assert (await users(platform, admin, cursor=cursor)).status_code == 200
    for query in ({"search": "u"}, {"role": "USER"}, {"status": "ACTIVE"}):
        assert_problem(await users(platform, admin, cursor=cursor, **query), "invalid-cursor")
    elsewhere = await administrator(platform, database, SECOND, "second")
    answer = await platform.http.get(
        "/api/users", params={"cursor": cursor}, headers={**elsewhere.headers, "Host": SECOND}
    )
    assert_problem(answer, "invalid-cursor")


@pytest.mark.parametrize("what", CHANGES)
async def test_accounts_of_another_tenant_are_not_found(
    platform: Platform, database: Database, admin: Person, what: str
) -> None:
    person = await platform.register()
    elsewhere = await administrator(platform, database, SECOND, "second")
    host = {"Host": SECOND}

    answer = await platform.http.get(f"/api/users/{person.id}", headers={**elsewhere.headers, **host})
    assert_problem(answer, "not-found")
    assert_problem(await change(platform, elsewhere, person.id, what, headers=host), "not-found")
    listed = await platform.http.get(
        "/api/users", params={"search": person.email}, headers={**elsewhere.headers, **host}
    )
    assert listed.json() == {"items": [], "nextCursor": None}
    assert (await profile(platform, admin, person))["version"] == 1


async def test_changed_role_ends_the_sessions_and_is_in_the_next_token(platform: Platform, admin: Person) -> None:
    person = await platform.register()

    changed = await change(platform, admin, person.id, "role", {"role": "ADMIN"}, if_match='"1"')

    assert (changed.status_code, changed.headers["etag"]) == (200, '"2"'), changed.text
    assert changed.json() == await profile(platform, admin, person)
    assert (changed.json()["role"], changed.json()["version"]) == ("ADMIN", 2)
    renewed = await platform.http.post("/api/auth/refresh", json={"refreshToken": person.refresh_token})
    assert_problem(renewed, "invalid-refresh-token")
    promoted = await platform.login(person)
    assert (await users(platform, promoted, limit=1)).status_code == 200
    state = await platform.http.get(f"/api/commands/{changed.headers['command-id']}", headers=admin.headers)
    assert (state.json()["type"], state.json()["status"]) == ("change-role", "COMPLETED")
    assert state.json()["result"]["aggregateId"] == person.id


async def test_suspended_account_cannot_sign_in_until_it_is_reinstated(platform: Platform, admin: Person) -> None:
    person = await platform.register()

    suspended = await change(platform, admin, person.id, "status", if_match='"1"')
    assert (suspended.status_code, suspended.json()["status"]) == (200, "SUSPENDED"), suspended.text
    assert_problem(await sign_in(platform, person), "account-closed")
    renewed = await platform.http.post("/api/auth/refresh", json={"refreshToken": person.refresh_token})
    assert_problem(renewed, "invalid-refresh-token")

    reinstated = await change(platform, admin, person.id, "status", {"status": "ACTIVE"}, if_match='"2"')
    assert reinstated.json()["status"] == "PENDING_VERIFICATION"
    assert (await sign_in(platform, person)).status_code == 200


@pytest.mark.parametrize("what", CHANGES)
async def test_change_needs_the_version_that_it_is_based_on(platform: Platform, admin: Person, what: str) -> None:
    person = await platform.register()

    assert_problem(await change(platform, admin, person.id, what, if_match=None), "precondition-required")
    assert_problem(await change(platform, admin, person.id, what, if_match="1"), "invalid-if-match")
    refused = await change(platform, admin, person.id, what, if_match='"2"')
    assert "version 1" in assert_problem(refused, "version-conflict")["detail"]
    assert (await change(platform, admin, person.id, what, if_match='"1"')).status_code == 200


@pytest.mark.parametrize("what", CHANGES)
async def test_change_is_repeated_with_its_key_only(platform: Platform, admin: Person, what: str) -> None:
    person, other, key = await platform.register(), await platform.register(), {"Idempotency-Key": str(uuid4())}
    another = {"role": {"role": "BUILDER"}, "status": {"status": "SUSPENDED"}}[what]

    first = await change(platform, admin, person.id, what, headers=key)
    again = await change(platform, admin, person.id, what, headers=key)

    assert (again.status_code, again.content) == (200, first.content)
    assert again.headers["idempotency-replayed"] == "true"
    assert_problem(await change(platform, admin, person.id, what, another, headers=key), "idempotency-key-reused")
    same = await change(platform, admin, person.id, what)
    assert (same.status_code, same.headers["etag"]) == (200, '"2"')
    assert (await change(platform, admin, other.id, what, headers=key)).json()["id"] == other.id


@pytest.mark.parametrize("what", CHANGES)
async def test_own_account_is_left_to_another_administrator(platform: Platform, admin: Person, what: str) -> None:
    refused = assert_problem(await change(platform, admin, admin.id, what), "forbidden")

    assert "another administrator" in refused["detail"]
    assert (await profile(platform, admin, admin))["role"] == "ADMIN"


@pytest.mark.parametrize("what", CHANGES)
async def test_role_in_an_old_token_is_not_enough_for_a_change(
    platform: Platform, database: Database, admin: Person, what: str
) -> None:
    former, person = await administrator(platform, database), await platform.register()
    await set_role(database, former, "AGENT")

    assert_problem(await change(platform, former, person.id, what), "forbidden")

    assert (await profile(platform, admin, person))["version"] == 1


async def test_two_administrators_who_demote_each_other_leave_one(platform: Platform, database: Database) -> None:
    one, two = await administrator(platform, database), await administrator(platform, database)

    answers = await asyncio.gather(
        change(platform, one, two.id, "role"),
        change(platform, two, one.id, "role"),
    )

    assert sorted(answer.status_code for answer in answers) in ([200, 403], [200, 401])
    async with database.statements("hyderabad") as connection:
        left = text("SELECT count(*) FROM user_management.users WHERE user_id IN (:one, :two) AND role = 'ADMIN'")
        assert (await connection.execute(left, {"one": one.id, "two": two.id})).scalar_one() == 1


@pytest.mark.parametrize("what", CHANGES)
async def test_account_that_is_erased_or_unknown_is_not_found(
    platform: Platform, database: Database, admin: Person, what: str
) -> None:
    erased = await platform.register()
    async with database.statements("hyderabad") as connection:
        erase = text("UPDATE user_management.users SET status = 'DELETED' WHERE user_id = :id")
        await connection.execute(erase, {"id": erased.id})

    for account in (erased.id, new_id()):
        assert_problem(await change(platform, admin, account, what), "not-found")
        answer = await platform.http.get(f"/api/users/{account}", headers=admin.headers)
        assert_problem(answer, "not-found")
    assert await walk(platform, admin, search=erased.email) == []


@pytest.mark.parametrize("account", ["ravi", "1", "0199c9a4-1f00-7000-8000-00000000000", "profile%20"])
async def test_id_that_is_no_uuid_is_refused(platform: Platform, admin: Person, account: str) -> None:
    answer = await platform.http.get(f"/api/users/{account}", headers=admin.headers)
    assert_problem(answer, "invalid-request", "path.user_id")
    for what in CHANGES:
        assert_problem(await change(platform, admin, account, what), "invalid-request", "path.user_id")


@pytest.mark.parametrize(
    ("what", "body", "field"),
    [
        ("role", {}, "role"),
        ("role", {"role": "KING"}, "role"),
        ("role", {"role": None}, "role"),
        ("role", {"role": "AGENT", "reason": "x"}, "reason"),
        ("status", {"status": "DELETED"}, "status"),
        ("status", {"status": "PENDING_VERIFICATION"}, "status"),
        ("status", {"status": "SUSPENDED", "reason": ""}, "reason"),
        ("status", {"status": "SUSPENDED", "reason": "x" * 1001}, "reason"),
        ("status", {"reason": "x"}, "status"),
    ],
)
async def test_invalid_change_is_refused(
    platform: Platform, admin: Person, what: str, body: dict[str, Any], field: str
) -> None:
    person = await platform.register()
    answer = await platform.http.put(
        f"/api/users/{person.id}/{what}", json=body, headers={**admin.headers, "If-Match": "*"}
    )
    assert_problem(answer, "invalid-request", field)
