"""The second factor: setting it up, signing in with it, recovery codes, and disabling it."""

import asyncio
import time
from urllib.parse import parse_qs, urlsplit
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy import text

from adapters.postgres import Database
from adapters.sealing import Keyring
from api import second_factor
from tests.api.test_accounts import change_password, link, refresh, reset, reset_link, verify
from tests.api.test_contract import assert_problem
from tests.platform import PASSWORD, Person, Platform, registration, until
from tests.second_factors import App, begin, confirm, enable, forget_steps


async def login(
    platform: Platform, person: Person, code: str | None = None, password: str = PASSWORD
) -> httpx.Response:
    body = {"emailOrUsername": person.email, "password": password} | ({"code": code} if code else {})
    return await platform.http.post("/api/auth/login", json=body)


async def disable(
    platform: Platform, person: Person, code: str, password: str = PASSWORD, **headers: str
) -> httpx.Response:
    body = {"password": password, "code": code}
    return await platform.http.request(
        "DELETE", "/api/users/second-factor", json=body, headers={**person.headers, **headers}
    )


async def replace(platform: Platform, person: Person, code: str, **headers: str) -> httpx.Response:
    body = {"password": PASSWORD, "code": code}
    path = "/api/users/second-factor/recovery-codes"
    return await platform.http.post(path, json=body, headers={**person.headers, **headers})


async def protected(platform: Platform) -> tuple[Person, App]:
    person = await platform.register()
    return person, await enable(platform.http, person.headers)


async def test_setup_has_what_an_authenticator_app_needs_and_stores_nothing(
    platform: Platform, database: Database
) -> None:
    person = await platform.register()

    answer = await begin(platform.http, person.headers)

    setup = answer.json()
    assert answer.headers["cache-control"] == "no-store"
    uri = urlsplit(setup["uri"])
    assert (uri.scheme, uri.netloc) == ("otpauth", "totp")
    assert parse_qs(uri.query) == {"secret": [setup["secret"]], "issuer": ["Hyderabad Infra"]}
    assert setup["qrCode"].startswith("data:image/svg+xml")
    assert setup["secret"] not in setup["setupToken"]
    async with database.statements("hyderabad") as connection:
        stored = text("SELECT count(*) FROM user_management.totp WHERE user_id = :user")
        assert (await connection.execute(stored, {"user": person.id})).scalar_one() == 0
    assert (await login(platform, person)).status_code == 200


async def test_enabled_second_factor_is_required_at_sign_in_by_password(platform: Platform) -> None:
    person, app = await protected(platform)

    assert_problem(await login(platform, person), "second-factor-required")
    assert_problem(await login(platform, person, app.wrong_code), "invalid-code")
    assert (await login(platform, person, app.code(1))).status_code == 200
    profile = (await platform.http.get("/api/users/profile", headers=person.headers)).json()
    assert profile["secondFactor"] is True


async def test_enabled_second_factor_closes_the_sessions_opened_without(platform: Platform) -> None:
    person = await platform.register()
    other = await platform.login(person)
    app = await enable(platform.http, person.headers)

    async def access_token_is_refused() -> bool:
        return (await platform.http.get("/api/users/profile", headers=other.headers)).status_code == 401

    await until(access_token_is_refused)
    assert_problem(await refresh(platform, other), "invalid-refresh-token")
    assert (await refresh(platform, person)).status_code == 200
    signed_in = (await login(platform, person, app.code(1))).json()
    assert (await replace(platform, person, app.recovery_codes[0])).status_code == 200
    body = {"refreshToken": signed_in["refreshToken"]}
    assert (await platform.http.post("/api/auth/refresh", json=body)).status_code == 200


async def test_nothing_of_the_second_factor_is_told_without_the_password(platform: Platform) -> None:
    person, app = await protected(platform)
    other = await platform.register()

    for code in (None, app.code(1), app.recovery_codes[0]):
        with_factor = await login(platform, person, code, "wrong horse battery")
        without = await login(platform, other, code, "wrong horse battery")
        assert_problem(with_factor, "invalid-credentials")
        assert with_factor.content == without.content
    assert (await login(platform, person, app.recovery_codes[0])).status_code == 200


async def test_code_of_an_account_without_second_factor_is_ignored(platform: Platform) -> None:
    person = await platform.register()

    assert (await login(platform, person, "123456")).status_code == 200


async def test_code_of_the_setup_signs_in_no_more(platform: Platform) -> None:
    person, app = await protected(platform)

    assert_problem(await login(platform, person, app.code(-1)), "invalid-code")


async def test_code_is_accepted_once(platform: Platform) -> None:
    person, app = await protected(platform)
    code = app.code(1)

    assert (await login(platform, person, code)).status_code == 200
    assert_problem(await login(platform, person, code), "invalid-code")


@pytest.mark.parametrize("kind", ["app", "recovery"])
async def test_code_used_twice_at_once_opens_one_session(platform: Platform, database: Database, kind: str) -> None:
    person, app = await protected(platform)
    code = app.code(1) if kind == "app" else app.recovery_codes[3]

    answers = await asyncio.gather(*(login(platform, person, code) for _ in range(4)))

    assert sorted(answer.status_code for answer in answers) == [200, 401, 401, 401]
    async with database.statements("hyderabad") as connection:
        opened = text("SELECT count(*) FROM user_management.sessions WHERE user_id = :user AND second_factor")
        # The session of the setup, and that of the one sign-in.
        assert (await connection.execute(opened, {"user": person.id})).scalar_one() == 2


async def test_clock_of_the_app_may_be_wrong_by_a_step_and_no_more(platform: Platform, database: Database) -> None:
    person, app = await protected(platform)
    for steps, status in ((-3, 401), (-1, 200), (1, 200), (3, 401)):
        await forget_steps(database, "hyderabad", person.id)
        # Not while the step changes: the code would be of another distance.
        await until(_early_in_a_step)
        assert (await login(platform, person, app.code(steps))).status_code == status, steps


async def _early_in_a_step() -> bool:
    return time.time() % 30 < 28


async def test_recovery_code_signs_in_once_however_it_is_typed(platform: Platform) -> None:
    person, app = await protected(platform)
    code = app.recovery_codes[0]
    typed = "-".join(code[at : at + 4] for at in range(0, 16, 4)).upper()

    assert (await login(platform, person, typed)).status_code == 200
    assert_problem(await login(platform, person, code), "invalid-code")
    assert (await login(platform, person, app.recovery_codes[1])).status_code == 200


async def test_wrong_codes_begin_a_pause_like_wrong_passwords(platform: Platform) -> None:
    person, app = await protected(platform)

    for _ in range(5):
        assert_problem(await login(platform, person, app.wrong_code), "invalid-code")

    assert_problem(await login(platform, person, app.code(1)), "too-many-requests")


async def test_wrong_code_is_a_failed_sign_in_of_the_account(platform: Platform) -> None:
    person, app = await protected(platform)
    await login(platform, person, app.wrong_code)

    async def is_recorded() -> bool:
        answer = await platform.http.get("/api/users/profile/security-events", headers=person.headers)
        return "LOGIN_FAILED" in {event["type"] for event in answer.json()["items"]}

    await until(is_recorded)


async def test_right_password_without_a_code_is_recorded_as_a_failed_sign_in(platform: Platform) -> None:
    """Somebody knows the password."""
    person, app = await protected(platform)
    assert_problem(await login(platform, person), "second-factor-required")

    async def types() -> list[str]:
        answer = await platform.http.get("/api/users/profile/security-events", headers=person.headers)
        return [event["type"] for event in answer.json()["items"] if event["type"].startswith(("LOGIN", "USER_LOG"))]

    assert await until(types) == ["LOGIN_FAILED"]
    assert (await login(platform, person, app.code(1))).status_code == 200
    assert await types() == ["USER_LOGGED_IN", "LOGIN_FAILED"]


async def test_asking_for_the_code_is_limited_by_no_pause(platform: Platform) -> None:
    person, app = await protected(platform)

    for _ in range(7):
        assert_problem(await login(platform, person), "second-factor-required")

    assert (await login(platform, person, app.code(1))).status_code == 200


async def test_repeated_registration_needs_the_second_factor(platform: Platform) -> None:
    body, key = registration(), {"Idempotency-Key": str(uuid4())}
    first = await platform.http.post("/api/auth/register", json=body, headers=key)
    await enable(platform.http, {"Authorization": f"Bearer {first.json()['accessToken']}"})

    assert_problem(await platform.http.post("/api/auth/register", json=body, headers=key), "second-factor-required")


async def test_reset_password_keeps_the_second_factor(platform: Platform, database: Database, keyring: Keyring) -> None:
    person, app = await protected(platform)
    verifying = await link(database, keyring, person.id, "USER_REGISTERED")
    assert (await verify(platform, verifying)).status_code == 204
    token = await reset_link(platform, database, keyring, person)
    assert (await reset(platform, token, "staple lamp orbit nine")).status_code == 204

    assert_problem(await login(platform, person, password="staple lamp orbit nine"), "second-factor-required")
    assert (await login(platform, person, app.code(1), "staple lamp orbit nine")).status_code == 200


async def test_second_factor_of_whoever_registered_with_an_address_does_not_keep_its_owner_out(
    platform: Platform, database: Database, keyring: Keyring
) -> None:
    person, _ = await protected(platform)
    token = await reset_link(platform, database, keyring, person)
    assert (await reset(platform, token, "staple lamp orbit nine")).status_code == 204

    assert (await login(platform, person, password="staple lamp orbit nine")).status_code == 200


async def test_password_is_changed_in_an_open_session_without_a_code(platform: Platform) -> None:
    person, _ = await protected(platform)

    assert (await change_password(platform, person, PASSWORD)).status_code == 204


async def test_setup_needs_the_password(platform: Platform) -> None:
    person = await platform.register()

    assert_problem(await begin(platform.http, person.headers, "wrong horse battery"), "wrong-password", "password")


async def test_guessing_in_an_open_session_is_limited(platform: Platform) -> None:
    person, app = await protected(platform)

    answers = [await disable(platform, person, app.wrong_code) for _ in range(5)]

    for answer in answers:
        assert_problem(answer, "wrong-code", "code")
    assert_problem(await disable(platform, person, app.code(1)), "too-many-requests")


def altered(token: str) -> str:
    return ("B" if token[0] == "A" else "A") + token[1:]


async def test_setup_is_of_one_account(platform: Platform) -> None:
    owner, other = await platform.register(), await platform.register()
    setup = (await begin(platform.http, owner.headers)).json()
    code = App(setup["secret"]).code()

    assert_problem(await confirm(platform.http, other.headers, setup["setupToken"], code), "invalid-setup-token")
    for token in (altered(setup["setupToken"]), "A" * 75, "A" * 24):
        assert_problem(await confirm(platform.http, owner.headers, token, code), "invalid-setup-token")


async def test_setup_is_of_one_tenant(platform: Platform, keyring: Keyring) -> None:
    person = await platform.register()
    forged = keyring.seal_token(f"second-factor:second:{person.id}", b"\x7f" + bytes(7) + b"JBSWY3DPEHPK3PXP")

    assert_problem(await confirm(platform.http, person.headers, forged, "123456"), "invalid-setup-token")


async def test_setup_expires(platform: Platform, keyring: Keyring) -> None:
    person = await platform.register()
    expired = second_factor._EXPIRY.pack(int(time.time()) - 1) + b"JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
    token = keyring.seal_token(f"second-factor:hyderabad:{person.id}", expired)

    assert_problem(await confirm(platform.http, person.headers, token, "123456"), "invalid-setup-token")


async def test_setup_with_a_wrong_code_enables_nothing(platform: Platform) -> None:
    person = await platform.register()
    setup = (await begin(platform.http, person.headers)).json()

    refused = await confirm(platform.http, person.headers, setup["setupToken"], App(setup["secret"]).wrong_code)

    assert_problem(refused, "wrong-code", "code")
    assert (await login(platform, person)).status_code == 200


async def test_second_factor_is_not_replaced_by_the_password_alone(platform: Platform) -> None:
    person = await platform.register()
    setups = [(await begin(platform.http, person.headers)).json() for _ in range(2)]
    codes = [App(setup["secret"]).code() for setup in setups]

    first = await confirm(platform.http, person.headers, setups[0]["setupToken"], codes[0])
    second = await confirm(platform.http, person.headers, setups[1]["setupToken"], codes[1])

    assert first.status_code == 200
    assert_problem(second, "second-factor-on")
    assert_problem(await begin(platform.http, person.headers), "second-factor-on")


async def test_two_setups_confirmed_at_once_enable_one(platform: Platform) -> None:
    person = await platform.register()
    setups = [(await begin(platform.http, person.headers)).json() for _ in range(2)]

    answers = await asyncio.gather(
        *(confirm(platform.http, person.headers, setup["setupToken"], App(setup["secret"]).code()) for setup in setups)
    )

    assert sorted(answer.status_code for answer in answers) == [200, 409]
    [enabled] = [n for n, answer in enumerate(answers) if answer.status_code == 200]
    assert (await login(platform, person, App(setups[enabled]["secret"]).code(1))).status_code == 200


async def test_confirmed_setup_is_answered_again_with_the_same_key(platform: Platform) -> None:
    person, key = await platform.register(), {"Idempotency-Key": str(uuid4())}
    setup = (await begin(platform.http, person.headers)).json()
    code = App(setup["secret"]).code()

    first, again = [
        await confirm(platform.http, {**person.headers, **key}, setup["setupToken"], code) for _ in range(2)
    ]

    assert first.json() == again.json()
    assert len(set(first.json()["recoveryCodes"])) == 10
    assert (first.headers["cache-control"], again.headers["idempotency-replayed"]) == ("no-store", "true")
    other = await confirm(platform.http, {**person.headers, **key}, setup["setupToken"], "123456")
    assert_problem(other, "idempotency-key-reused")
    assert (await login(platform, person, again.json()["recoveryCodes"][9])).status_code == 200


async def test_recovery_codes_are_replaced_and_the_app_stays(platform: Platform, database: Database) -> None:
    person, app = await protected(platform)
    key = str(uuid4())
    code = app.code(1)  # of both, also when the step changes between them

    first, again = [await replace(platform, person, code, **{"Idempotency-Key": key}) for _ in range(2)]

    assert first.json() == again.json()
    assert not set(first.json()["recoveryCodes"]) & set(app.recovery_codes)
    assert_problem(await login(platform, person, app.recovery_codes[0]), "invalid-code")
    assert (await login(platform, person, first.json()["recoveryCodes"][0])).status_code == 200
    await forget_steps(database, "hyderabad", person.id)
    assert (await login(platform, person, app.code())).status_code == 200


async def test_disabled_second_factor_is_forgotten(platform: Platform, database: Database) -> None:
    person, app = await protected(platform)
    key = str(uuid4())
    code = app.code(1)  # of both, also when the step changes between them

    first, again = [await disable(platform, person, code, **{"Idempotency-Key": key}) for _ in range(2)]

    assert (first.status_code, again.status_code) == (204, 204)
    assert again.headers["idempotency-replayed"] == "true"
    assert (await login(platform, person)).status_code == 200
    async with database.statements("hyderabad") as connection:
        for table in ("totp", "recovery_codes"):
            left = text(f"SELECT count(*) FROM user_management.{table} WHERE user_id = :user")
            assert (await connection.execute(left, {"user": person.id})).scalar_one() == 0


async def test_disabling_needs_password_and_code(platform: Platform) -> None:
    person, app = await protected(platform)

    assert_problem(await disable(platform, person, app.code(1), "wrong horse battery"), "wrong-password", "password")
    assert_problem(await disable(platform, person, app.wrong_code), "wrong-code", "code")
    assert (await disable(platform, person, app.recovery_codes[0])).status_code == 204


async def test_what_needs_a_second_factor_is_refused_without_one(platform: Platform) -> None:
    person = await platform.register()

    assert_problem(await disable(platform, person, "123456"), "second-factor-off")
    assert_problem(await replace(platform, person, "123456"), "second-factor-off")


async def test_changes_are_in_the_history(platform: Platform) -> None:
    person, app = await protected(platform)
    await replace(platform, person, app.code(1))
    codes = await replace(platform, person, app.recovery_codes[0])
    assert_problem(codes, "wrong-code")  # they were replaced

    async def both_are_told() -> bool:
        told = {entry["description"] for entry in await platform.history(person)}
        return {"User enabled the second factor", "User replaced the recovery codes"} <= told

    await until(both_are_told)


@pytest.mark.parametrize("table", ["totp", "recovery_codes"])
async def test_second_factors_are_of_one_tenant(platform: Platform, database: Database, table: str) -> None:
    person, _ = await protected(platform)

    async with database.statements("second") as connection:
        seen = text(f"SELECT count(*) FROM user_management.{table} WHERE user_id = :user")
        assert (await connection.execute(seen, {"user": UUID(person.id)})).scalar_one() == 0
