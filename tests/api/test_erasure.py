"""Erasing one's own account: the password, the answer, and the progress without signing in."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from adapters.paging import Cursor
from adapters.settings import Settings
from api.opaque import Signer
from tests.api.test_accounts import refresh, sign_in
from tests.api.test_contract import assert_problem
from tests.platform import PASSWORD, Person, Platform, registration, until
from tests.second_factors import enable

STAGES = ["saved", "published", "notified", "withdrawn", "deleted", "erased"]


async def erase(
    platform: Platform, person: Person, password: str = PASSWORD, code: str | None = None, **headers: str
) -> httpx.Response:
    body = {"password": password} | ({"code": code} if code else {})
    return await platform.http.request("DELETE", "/api/users/profile", json=body, headers={**person.headers, **headers})


async def erased(platform: Platform, location: str, seconds: float = 120) -> dict[str, Any]:
    """The state of an erasure, once it is done."""

    async def finished() -> dict[str, Any] | None:
        state: dict[str, Any] = (await platform.http.get(location)).json()
        return state if [stage["status"] for stage in state.get("stages", [])] == ["DONE"] * len(STAGES) else None

    state = await until(finished, seconds=seconds)
    assert state is not None
    return state


async def test_account_is_erased_and_its_address_is_free(platform: Platform) -> None:
    person = await platform.register()
    listed = await platform.create(person)

    answer = await erase(platform, person)

    assert answer.status_code == 202
    assert answer.json()["location"] == answer.headers["location"]
    assert answer.headers["location"].startswith(f"/api/commands/{answer.headers['command-id']}?token=")
    assert_problem(await refresh(platform, person), "invalid-refresh-token")
    state = await erased(platform, answer.headers["location"])
    assert (state["type"], state["status"], state["problem"]) == ("erase-user", "COMPLETED", None)
    assert [stage["name"] for stage in state["stages"]] == STAGES
    assert_problem(await sign_in(platform, person, PASSWORD), "invalid-credentials")
    assert_problem(await platform.http.get(listed.headers["location"]), "not-found")
    [mail] = await platform.mails(person, "Your account is erased")
    assert mail["to"] == person.email
    again = registration(email=person.email, username=person.username)
    assert (await platform.http.post("/api/auth/register", json=again)).status_code == 201


async def test_account_is_erased_by_who_knows_the_password(platform: Platform) -> None:
    person = await platform.register()

    refused = await erase(platform, person, "wrong horse battery")

    assert_problem(refused, "wrong-password")
    assert refused.json()["errors"][0]["field"] == "password"
    assert (await platform.http.get("/api/users/profile", headers=person.headers)).status_code == 200
    assert_problem(
        await platform.http.request("DELETE", "/api/users/profile", json={"password": PASSWORD}), "unauthenticated"
    )
    no_body = await platform.http.request("DELETE", "/api/users/profile", json={}, headers=person.headers)
    assert_problem(no_body, "invalid-request")


async def test_account_with_a_second_factor_is_erased_with_a_code(platform: Platform) -> None:
    person = await platform.register()
    app = await enable(platform.http, person.headers)

    assert_problem(await erase(platform, person), "second-factor-required")
    assert_problem(await erase(platform, person, code=app.wrong_code), "invalid-code")
    assert_problem(await erase(platform, person, "wrong horse battery", app.code(1)), "wrong-password", "password")
    assert (await erase(platform, person, code=app.code(1))).status_code == 202


async def test_account_is_erased_once(platform: Platform) -> None:
    person = await platform.register()

    answers = await asyncio.gather(*(erase(platform, person) for _ in range(3)))

    done = [answer for answer in answers if answer.status_code == 202]
    assert len(done) == 1
    await erased(platform, done[0].headers["location"])
    assert len(await platform.mails(person, "Your account is erased")) == 1


async def test_closed_account_does_nothing_more(platform: Platform) -> None:
    person = await platform.register()
    await erase(platform, person)

    for answer in (
        await platform.create(person),
        await platform.http.get("/api/users/profile", headers=person.headers),
        await platform.http.patch(
            "/api/users/profile", json={"city": "Uppal"}, headers={**person.headers, "If-Match": "*"}
        ),
    ):
        assert answer.status_code in {401, 403, 404}, answer.text

    async def refused() -> bool:
        profile = await platform.http.get("/api/users/profile", headers=person.headers)
        return bool(profile.json()["type"] == "/problems/session-closed")

    await until(refused)


async def test_progress_is_read_with_its_token_only(platform: Platform, settings: Settings) -> None:
    person = await platform.register()
    other = (await platform.create(person)).headers["command-id"]
    location = (await erase(platform, person)).headers["location"]
    path, _, token = location.partition("?token=")
    of_command = UUID(path.rpartition("/")[2])
    signer, now = Signer(settings.secret_bytes), datetime.now(UTC)
    expired = signer.sign(f"command:hyderabad:{of_command}", Cursor(now - timedelta(seconds=1), UUID(person.id)))
    elsewhere = {"Host": "second.localhost"}

    async def read(path: str, token: str, **headers: str) -> httpx.Response:
        return await platform.http.get(path, params={"token": token}, headers=headers)

    assert (await read(path, token)).status_code == 200
    assert (await read(path, token, Authorization="Bearer of a closed session")).status_code == 200
    assert_problem(await platform.http.get(path), "unauthenticated")
    assert_problem(await read(path, token[:-1] + ("A" if token[-1] != "A" else "B")), "invalid-link")
    assert_problem(await read(f"/api/commands/{other}", token), "invalid-link")
    assert_problem(await read(f"/api/commands/{uuid4()}", token), "invalid-link")
    assert_problem(await read(path, expired), "invalid-link")
    assert_problem(await read(path, token, **elsewhere), "invalid-link")
    assert_problem(await read(path, "x" * 201), "invalid-request")


async def test_progress_of_another_tenant_is_read_at_its_host(platform: Platform) -> None:
    host = {"Host": "second.localhost"}
    person = await platform.register("second.localhost")

    location = (await erase(platform, person, **host)).headers["location"]

    assert (await platform.http.get(location, headers=host)).status_code == 200
    assert (await platform.http.get(location)).status_code == 200  # this host is of no tenant


@pytest.mark.parametrize("key", ["of a client that has lost the answer"])
async def test_request_that_is_repeated_with_its_key_is_not_another_erasure(platform: Platform, key: str) -> None:
    person = await platform.register()

    first, again = [await erase(platform, person, **{"Idempotency-Key": key}) for _ in range(2)]

    assert first.status_code == 202
    # The account may be gone, and the session is closed.
    assert again.status_code in {202, 401, 403}
    if again.status_code == 202:
        assert again.headers["command-id"] == first.headers["command-id"]
