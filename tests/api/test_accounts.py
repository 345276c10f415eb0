"""Changes of one's own account: profile, password, and the links in mails."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy import text
from temporalio.client import Client

from adapters.postgres import Database
from adapters.sealing import Keyring
from tests.api.test_contract import assert_problem
from tests.platform import PASSWORD, Person, Platform, until

NEW = "staple lamp orbit nine"


async def change_profile(
    platform: Platform, person: Person, body: Any, if_match: str | None = "*", **headers: str
) -> httpx.Response:
    sent = {**person.headers, **({} if if_match is None else {"If-Match": if_match}), **headers}
    return await platform.http.patch("/api/users/profile", json=body, headers=sent)


async def change_password(
    platform: Platform, person: Person, current: str, new: str = NEW, **headers: str
) -> httpx.Response:
    body = {"currentPassword": current, "newPassword": new}
    return await platform.http.post("/api/users/password", json=body, headers={**person.headers, **headers})


async def sign_in(platform: Platform, person: Person, password: str) -> httpx.Response:
    return await platform.http.post("/api/auth/login", json={"emailOrUsername": person.email, "password": password})


async def refresh(platform: Platform, person: Person) -> httpx.Response:
    return await platform.http.post("/api/auth/refresh", json={"refreshToken": person.refresh_token})


async def ask(platform: Platform, what: str, email: str) -> httpx.Response:
    return await platform.http.post(f"/api/auth/{what}", json={"email": email})


async def link(database: Database, keyring: Keyring, user_id: str, event_type: str) -> str:
    """The token of the newest link that was made for a user, as the mail has it."""

    async def events() -> list[UUID]:
        async with database.statements("hyderabad") as connection:
            query = (
                "SELECT event_id FROM user_history.event_store WHERE aggregate_id = :user AND event_type = :type"
                " ORDER BY id DESC"
            )
            return list((await connection.execute(text(query), {"user": user_id, "type": event_type})).scalars())

    return keyring.link_token((await until(events))[0])


async def reset_link(platform: Platform, database: Database, keyring: Keyring, person: Person) -> str:
    assert (await ask(platform, "forgot-password", person.email)).status_code == 202
    return await link(database, keyring, person.id, "USER_PASSWORD_RESET_REQUESTED")


async def reset(platform: Platform, token: str, password: str = NEW, **headers: str) -> httpx.Response:
    body = {"token": token, "newPassword": password}
    return await platform.http.post("/api/auth/reset-password", json=body, headers=headers)


async def verify(platform: Platform, token: str, **headers: str) -> httpx.Response:
    return await platform.http.post("/api/auth/verify-email", json={"token": token}, headers=headers)


async def test_profile_is_changed_by_a_merge_patch(platform: Platform) -> None:
    person = await platform.register(phoneNumber="9848022338")

    changed = await change_profile(platform, person, {"city": "Hyderabad", "phoneNumber": None}, '"1"')

    assert changed.status_code == 200
    profile = await platform.http.get("/api/users/profile", headers=person.headers)
    assert changed.json() == profile.json()
    assert (profile.json()["city"], profile.json()["phoneNumber"], profile.json()["firstName"]) == (
        "Hyderabad",
        None,
        "Ravi",
    )
    assert changed.headers["ETag"] == profile.headers["ETag"] == '"2"'


async def test_profile_is_changed_at_the_version_that_was_read(platform: Platform) -> None:
    person = await platform.register()

    assert_problem(await change_profile(platform, person, {"city": "Uppal"}, None), "precondition-required")
    assert_problem(await change_profile(platform, person, {"city": "Uppal"}, '"2"'), "version-conflict")
    both = await asyncio.gather(*(change_profile(platform, person, {"city": city}, '"1"') for city in ("A1", "B1")))
    assert sorted(answer.status_code for answer in both) == [200, 412]


@pytest.mark.parametrize(
    "body",
    [
        {"firstName": None},
        {"firstName": ""},
        {"email": "x@example.com"},
        {"role": "ADMIN"},
        {"dateOfBirth": "2999-01-01"},
    ],
)
async def test_profile_that_would_be_invalid_is_refused(platform: Platform, body: dict[str, Any]) -> None:
    answer = await change_profile(platform, await platform.register(), body)

    assert_problem(answer, "invalid-request")
    assert answer.json()["errors"][0]["field"] == next(iter(body))


async def test_changed_password_closes_the_other_sessions(platform: Platform) -> None:
    person = await platform.register()
    elsewhere = await platform.login(person)

    assert (await change_password(platform, person, PASSWORD)).status_code == 204

    assert_problem(await refresh(platform, elsewhere), "invalid-refresh-token")
    assert (await refresh(platform, person)).status_code == 200
    assert_problem(await sign_in(platform, person, PASSWORD), "invalid-credentials")
    assert (await sign_in(platform, person, NEW)).status_code == 200


async def test_password_is_changed_by_who_knows_it(platform: Platform) -> None:
    person = await platform.register()

    refused = await change_password(platform, person, "wrong horse battery")

    assert_problem(refused, "wrong-password")
    assert refused.json()["errors"][0]["field"] == "currentPassword"
    assert (await sign_in(platform, person, PASSWORD)).status_code == 200


async def test_changed_password_is_answered_again_with_the_same_key(platform: Platform) -> None:
    person, key = await platform.register(), str(uuid4())
    first = await change_password(platform, person, PASSWORD, **{"Idempotency-Key": key})

    again = await change_password(platform, person, PASSWORD, **{"Idempotency-Key": key})

    assert (first.status_code, again.status_code) == (204, 204)
    assert first.headers["Command-Id"] == again.headers["Command-Id"]
    assert again.headers["Idempotency-Replayed"] == "true"


@pytest.mark.parametrize("password", ["password123", "ravikumar1"])
async def test_new_password_that_is_easy_to_guess_is_refused_with_the_reason(platform: Platform, password: str) -> None:
    person = await platform.register()

    refused = await change_password(platform, person, PASSWORD, password)

    assert_problem(refused, "weak-password")
    assert refused.json()["errors"][0] == {"field": "newPassword", "reason": refused.json()["detail"]}


async def test_guessing_the_password_of_an_open_session_is_limited(platform: Platform) -> None:
    person = await platform.register()

    answers = [await change_password(platform, person, "wrong horse battery") for _ in range(11)]

    assert_problem(answers[-1], "too-many-requests")


async def test_password_is_reset_by_a_link_which_closes_every_session(
    platform: Platform, database: Database, keyring: Keyring
) -> None:
    person = await platform.register()
    token = await reset_link(platform, database, keyring, person)

    assert (await reset(platform, token)).status_code == 204

    assert_problem(await refresh(platform, person), "invalid-refresh-token")
    assert (await sign_in(platform, person, NEW)).status_code == 200
    assert_problem(await reset(platform, token, "another lamp orbit nine"), "invalid-link")


async def test_link_used_twice_at_once_works_once(platform: Platform, database: Database, keyring: Keyring) -> None:
    person = await platform.register()
    token = await reset_link(platform, database, keyring, person)

    answers = await asyncio.gather(*(reset(platform, token, f"lamp orbit {word} nine") for word in ("one", "two")))

    assert sorted(answer.status_code for answer in answers) == [204, 400]


async def test_reset_is_answered_again_with_the_same_key(
    platform: Platform, database: Database, keyring: Keyring
) -> None:
    token, key = await reset_link(platform, database, keyring, await platform.register()), str(uuid4())

    answers = [await reset(platform, token, **{"Idempotency-Key": key}) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [204, 204]


async def test_key_of_another_new_password_is_refused(platform: Platform, database: Database, keyring: Keyring) -> None:
    """Otherwise somebody would believe that a password is replaced which is not."""
    person, key = await platform.register(), {"Idempotency-Key": str(uuid4())}
    assert (await reset(platform, await reset_link(platform, database, keyring, person), **key)).status_code == 204

    second = await reset_link(platform, database, keyring, person)
    assert_problem(await reset(platform, second, "another lamp orbit nine", **key), "idempotency-key-reused")

    signed_in = (await sign_in(platform, person, NEW)).json()
    headers = {"Authorization": f"Bearer {signed_in['accessToken']}", "Idempotency-Key": str(uuid4())}
    changed, again = "violet harbour kite", "another lamp orbit nine"
    path = "/api/users/password"
    first = await platform.http.post(path, json={"currentPassword": NEW, "newPassword": changed}, headers=headers)
    assert first.status_code == 204
    other = await platform.http.post(path, json={"currentPassword": changed, "newPassword": again}, headers=headers)
    assert_problem(other, "idempotency-key-reused")


async def test_link_that_sets_a_password_is_valid_for_an_hour(
    platform: Platform, database: Database, keyring: Keyring
) -> None:
    person = await platform.register()
    token = await reset_link(platform, database, keyring, person)
    async with database.statements("hyderabad") as connection:
        left = "SELECT expires_at - created_at FROM user_management.account_tokens WHERE user_id = :user"
        lifetimes = (await connection.execute(text(left), {"user": person.id})).scalars().all()
        assert sorted(lifetime.total_seconds() for lifetime in lifetimes) == [3600, 7 * 86_400]
        aged = "UPDATE user_management.account_tokens SET expires_at = now() WHERE user_id = :user"
        await connection.execute(text(aged), {"user": person.id})

    assert_problem(await reset(platform, token), "invalid-link")


async def test_links_are_of_one_purpose_and_one_tenant(
    platform: Platform, database: Database, keyring: Keyring
) -> None:
    person = await platform.register()
    token = await reset_link(platform, database, keyring, person)
    to_verify = await link(database, keyring, person.id, "USER_REGISTERED")

    assert_problem(await verify(platform, token), "invalid-link")
    assert_problem(await reset(platform, to_verify), "invalid-link")
    assert_problem(await reset(platform, token, Host="second.localhost"), "invalid-link")
    assert_problem(await reset(platform, "x" * 43), "invalid-link")


async def test_changing_the_password_withdraws_the_links_that_reset_it(
    platform: Platform, database: Database, keyring: Keyring
) -> None:
    person = await platform.register()
    token = await reset_link(platform, database, keyring, person)

    assert (await change_password(platform, person, PASSWORD)).status_code == 204

    assert_problem(await reset(platform, token, "another lamp orbit nine"), "invalid-link")


async def test_weak_password_does_not_use_up_the_link(platform: Platform, database: Database, keyring: Keyring) -> None:
    token = await reset_link(platform, database, keyring, await platform.register())

    assert_problem(await reset(platform, token, "password123"), "weak-password")
    assert (await reset(platform, token)).status_code == 204


async def test_address_is_verified_by_the_link_of_the_registration(
    platform: Platform, database: Database, keyring: Keyring, temporal_client: Client
) -> None:
    person = await platform.register()
    token = await link(database, keyring, person.id, "USER_REGISTERED")

    assert (await verify(platform, token)).status_code == 204

    profile = (await platform.http.get("/api/users/profile", headers=person.headers)).json()
    assert (profile["status"], profile["emailVerified"]) == ("ACTIVE", True)
    assert_problem(await verify(platform, token), "invalid-link")
    reminders = temporal_client.get_workflow_handle(f"email-verification/hyderabad/{person.id}")
    assert await reminders.result() == "verified"


async def test_another_link_is_sent_on_request_until_the_address_is_verified(
    platform: Platform, database: Database, keyring: Keyring
) -> None:
    person = await platform.register()
    assert (await ask(platform, "resend-verification", person.email)).status_code == 202
    token = await link(database, keyring, person.id, "USER_VERIFICATION_REQUESTED")

    assert (await verify(platform, token)).status_code == 204


@pytest.mark.parametrize("what", ["forgot-password", "resend-verification"])
async def test_request_for_a_link_does_not_tell_whether_the_address_has_an_account(
    platform: Platform, what: str
) -> None:
    person = await platform.register()

    known, unknown = await ask(platform, what, person.email), await ask(platform, what, f"{uuid4().hex}@example.com")

    assert (known.status_code, known.content) == (unknown.status_code, unknown.content)
    assert known.headers.keys() == unknown.headers.keys()


async def test_links_to_one_address_are_limited_whether_it_has_an_account_or_not(platform: Platform) -> None:
    for email in ((await platform.register()).email, f"{uuid4().hex}@example.com"):
        answers = [await ask(platform, "forgot-password", email) for _ in range(6)]
        assert [answer.status_code for answer in answers] == [202] * 5 + [429]
        assert int(answers[-1].headers["Retry-After"]) > 60
