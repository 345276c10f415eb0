"""Passkeys: adding one, signing in with it, and what does not sign in."""

import asyncio
from dataclasses import replace
from typing import Any
from uuid import uuid4

import cbor2
import httpx
import pytest
from redis.asyncio import Redis
from sqlalchemy import text
from webauthn.helpers import base64url_to_bytes, bytes_to_base64url

from adapters.postgres import Database
from tests.api.test_contract import assert_problem
from tests.authenticator import Authenticator
from tests.platform import PASSWORD, Person, Platform, until
from tests.second_factors import enable

SECOND = {"Host": "second.localhost"}


async def begin(platform: Platform, person: Person, code: str | None = None, **headers: str) -> httpx.Response:
    body = {"password": PASSWORD} | ({"code": code} if code else {})
    return await platform.http.post("/api/users/passkeys/options", json=body, headers={**person.headers, **headers})


async def add(
    platform: Platform, person: Person, credential: dict[str, Any], name: str = "My telephone", **headers: str
) -> httpx.Response:
    body = {"credential": credential, "name": name}
    return await platform.http.post("/api/users/passkeys", json=body, headers={**person.headers, **headers})


async def made(platform: Platform, person: Person, **more: Any) -> Authenticator:
    """An authenticator with a passkey of the person."""
    authenticator = Authenticator(origin=platform.url, **more)
    added = await add(platform, person, authenticator.make((await begin(platform, person)).json()))
    assert added.status_code == 201, added.text
    return authenticator


async def remove(
    platform: Platform, person: Person, passkey_id: str, password: str = PASSWORD, code: str | None = None
) -> httpx.Response:
    body = {"password": password} | ({"code": code} if code else {})
    return await platform.http.request("DELETE", f"/api/users/passkeys/{passkey_id}", json=body, headers=person.headers)


async def options(platform: Platform, **headers: str) -> dict[str, Any]:
    answer = await platform.http.post("/api/auth/passkeys/options", headers=headers)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def sign_in(platform: Platform, credential: dict[str, Any], **headers: str) -> httpx.Response:
    return await platform.http.post("/api/auth/passkeys", json={"credential": credential}, headers=headers)


async def listed(platform: Platform, person: Person) -> list[dict[str, Any]]:
    answer = await platform.http.get("/api/users/passkeys", headers=person.headers)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


@pytest.fixture
async def owner(platform: Platform) -> Person:
    return await platform.register()


async def test_options_ask_for_a_discoverable_passkey_with_user_verification(platform: Platform, owner: Person) -> None:
    answer = await begin(platform, owner)

    made = answer.json()
    assert answer.headers["cache-control"] == "no-store"
    assert made["rp"] == {"id": "127.0.0.1", "name": "Hyderabad Infra"}
    assert (made["user"]["name"], made["user"]["displayName"]) == (owner.email, "Ravi Kumar")
    assert made["authenticatorSelection"]["residentKey"] == "required"
    assert made["authenticatorSelection"]["userVerification"] == "required"
    assert made["attestation"] == "none"


async def test_passkey_signs_in_without_a_password(platform: Platform) -> None:
    person = await platform.register()
    authenticator = await made(platform, person)

    answer = await sign_in(platform, authenticator.sign(await options(platform)))

    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json()
    assert body["user"]["id"] == person.id
    assert body["user"]["lastLogin"] is not None
    headers = {"Authorization": f"Bearer {body['accessToken']}"}
    assert (await platform.http.get("/api/users/profile", headers=headers)).status_code == 200
    [passkey] = await listed(platform, person)
    assert (passkey["name"], passkey["lastUsedAt"] is None) == ("My telephone", False)


async def test_passkey_needs_no_code_of_the_second_factor(platform: Platform) -> None:
    person = await platform.register()
    authenticator = await made(platform, person)
    await enable(platform.http, person.headers)

    assert (await sign_in(platform, authenticator.sign(await options(platform)))).status_code == 200


async def test_adding_a_passkey_needs_the_password_and_the_code_of_the_second_factor(platform: Platform) -> None:
    person = await platform.register()
    wrong = await platform.http.post(
        "/api/users/passkeys/options", json={"password": "wrong horse battery"}, headers=person.headers
    )
    assert_problem(wrong, "wrong-password", "password")
    app = await enable(platform.http, person.headers)

    assert_problem(await begin(platform, person), "wrong-code", "code")
    assert_problem(await begin(platform, person, app.wrong_code), "wrong-code", "code")
    assert (await begin(platform, person, app.code(1))).status_code == 200


async def test_challenge_made_before_the_second_factor_was_enabled_adds_no_passkey(platform: Platform) -> None:
    person = await platform.register()
    credential = Authenticator(origin=platform.url).make((await begin(platform, person)).json())
    app = await enable(platform.http, person.headers)

    assert_problem(await add(platform, person, credential), "invalid-challenge")
    assert await listed(platform, person) == []
    again = Authenticator(origin=platform.url).make((await begin(platform, person, app.code(1))).json())
    assert (await add(platform, person, again)).status_code == 201


async def test_added_passkey_is_answered_again_with_the_same_key(platform: Platform) -> None:
    person, key = await platform.register(), {"Idempotency-Key": str(uuid4())}
    credential = Authenticator(origin=platform.url).make((await begin(platform, person)).json())

    first, again = [await add(platform, person, credential, **key) for _ in range(2)]

    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert again.headers["idempotency-replayed"] == "true"
    assert [passkey["id"] for passkey in await listed(platform, person)] == [first.json()["id"]]


async def test_passkeys_of_the_account_are_excluded_from_the_options(platform: Platform) -> None:
    person = await platform.register()
    authenticator = await made(platform, person)

    excluded = (await begin(platform, person)).json()["excludeCredentials"]

    id = bytes_to_base64url(authenticator.credential_id)
    assert excluded == [{"id": id, "type": "public-key", "transports": ["internal", "hybrid"]}]


async def test_account_has_at_most_20_passkeys(platform: Platform, database: Database) -> None:
    person = await platform.register()
    fill = (
        "INSERT INTO user_management.passkeys"
        " (tenant_id, passkey_id, credential_id, user_id, name, public_key, sign_count, created_at)"
        " SELECT 'hyderabad', gen_random_uuid(), uuid_send(gen_random_uuid()), :user, 'Key', '', 0, now()"
        " FROM generate_series(1, 20)"
    )
    async with database.statements("hyderabad") as connection:
        await connection.execute(text(fill), {"user": person.id})

    assert_problem(await begin(platform, person), "too-many-passkeys")


async def test_removed_passkey_does_not_sign_in(platform: Platform) -> None:
    person = await platform.register()
    authenticator = await made(platform, person)
    other = await made(platform, person)
    [first, _] = await listed(platform, person)

    removed = await remove(platform, person, first["id"])

    assert removed.status_code == 204
    assert_problem(await sign_in(platform, authenticator.sign(await options(platform))), "invalid-passkey")
    assert (await sign_in(platform, other.sign(await options(platform)))).status_code == 200


async def test_removing_a_passkey_needs_the_password_and_the_code_of_the_second_factor(platform: Platform) -> None:
    person = await platform.register()
    await made(platform, person)
    [passkey] = await listed(platform, person)

    assert_problem(await remove(platform, person, passkey["id"], "wrong horse battery"), "wrong-password", "password")
    app = await enable(platform.http, person.headers)
    assert_problem(await remove(platform, person, passkey["id"]), "wrong-code", "code")
    assert_problem(await remove(platform, person, passkey["id"], code=app.wrong_code), "wrong-code", "code")
    assert len(await listed(platform, person)) == 1
    assert (await remove(platform, person, passkey["id"], code=app.code(1))).status_code == 204


async def test_passkey_of_another_account_is_not_removed(platform: Platform, owner: Person) -> None:
    person = await platform.register()
    await made(platform, person)
    [passkey] = await listed(platform, person)

    answer = await remove(platform, owner, passkey["id"])

    assert_problem(answer, "not-found")
    assert len(await listed(platform, person)) == 1


async def test_passkeys_are_in_the_history(platform: Platform) -> None:
    person = await platform.register()
    await made(platform, person)
    [passkey] = await listed(platform, person)
    await remove(platform, person, passkey["id"])

    async def both_are_told() -> bool:
        kinds = {entry["activityType"] for entry in await platform.history(person)}
        return {"USER_PASSKEY_ADDED", "USER_PASSKEY_REMOVED"} <= kinds

    await until(both_are_told)


@pytest.mark.parametrize(
    "wrong",
    [
        {"origin": "https://evil.example"},
        {"rp_id": "evil.example"},
        {"verifies_user": False},
        {"cross_origin": True},
    ],
    ids=str,
)
async def test_new_passkey_that_does_not_verify_is_refused(
    platform: Platform, owner: Person, wrong: dict[str, Any]
) -> None:
    credential = replace(Authenticator(origin=platform.url), **wrong).make((await begin(platform, owner)).json())

    assert_problem(await add(platform, owner, credential), "invalid-request", "credential")


def attestation(data: bytes, **more: Any) -> str:
    return bytes_to_base64url(cbor2.dumps({"fmt": "none", "attStmt": {}, "authData": data, **more}))


def with_key(credential: dict[str, Any], key: bytes) -> str:
    """The attestation of a credential with another public key."""
    data = cbor2.loads(base64url_to_bytes(credential["response"]["attestationObject"]))["authData"]
    return attestation(data[: 37 + 16 + 2 + 32] + key)


_POINT = {1: 2, 3: -7, -1: 1, -2: b"\x01" * 32, -3: b"\x02" * 32}
HOSTILE: dict[str, Any] = {
    "no CBOR": lambda _: bytes_to_base64url(b"\xff\x00not CBOR"),
    "endless list": lambda _: bytes_to_base64url(bytes.fromhex("9b00000000ffffffff")),
    "endless bytes": lambda _: bytes_to_base64url(bytes.fromhex("5b0fffffffffffffff")),
    "deep nesting": lambda _: bytes_to_base64url(b"\x81" * 20_000),
    "another type": lambda _: bytes_to_base64url(cbor2.dumps([1, 2, 3])),
    "short data": lambda _: attestation(b"\x00" * 36),
    "data of another type": lambda _: attestation(b"", authData=7),
    "unknown format": lambda _: attestation(b"\x00" * 37, fmt="of-the-future"),
    "format of another type": lambda _: attestation(b"\x00" * 37, fmt={}),
    "no key": lambda credential: with_key(credential, cbor2.dumps({})),
    "key that is a number": lambda credential: with_key(credential, cbor2.dumps(7)),
    "key on no curve": lambda credential: with_key(credential, cbor2.dumps(_POINT)),
    "key of another algorithm": lambda credential: with_key(credential, cbor2.dumps({**_POINT, 3: -36})),
    "huge key": lambda credential: with_key(
        credential, cbor2.dumps({1: 3, 3: -257, -1: b"\xff" * 20_000, -2: b"\x01\x00\x01"})
    ),
}


@pytest.mark.parametrize("hostile", HOSTILE)
async def test_hostile_attestation_is_refused(platform: Platform, hostile: str) -> None:
    person = await platform.register()
    credential = Authenticator(origin=platform.url).make((await begin(platform, person)).json())
    credential["response"]["attestationObject"] = HOSTILE[hostile](credential)

    assert_problem(await add(platform, person, credential), "invalid-request", "credential")


async def test_id_of_a_new_passkey_is_that_of_the_authenticator(platform: Platform) -> None:
    """Another id could be that of somebody's passkey."""
    person = await platform.register()
    credential = Authenticator(origin=platform.url).make((await begin(platform, person)).json())
    credential["id"] = credential["rawId"] = bytes_to_base64url(b"somebody's")

    assert_problem(await add(platform, person, credential), "invalid-request", "credential")


async def test_passkey_has_one_account(platform: Platform, owner: Person) -> None:
    """Whoever knows the id of a passkey cannot have it made again for their account, and keep its owner out."""
    person = await platform.register()
    authenticator = await made(platform, owner)
    thief = Authenticator(origin=platform.url, credential_id=authenticator.credential_id)

    taken = await add(platform, person, thief.make((await begin(platform, person)).json()))

    assert_problem(taken, "passkey-taken")
    assert_problem(await sign_in(platform, thief.sign(await options(platform))), "invalid-passkey")
    assert (await sign_in(platform, authenticator.sign(await options(platform)))).json()["user"]["id"] == owner.id


@pytest.mark.parametrize(
    "client_data", [b"{}", b"\xff", b"[]", b'{"type": 1, "challenge": 2, "origin": 3}', b"[" * 5000]
)
async def test_client_data_without_a_challenge_is_refused(
    platform: Platform, owner: Person, client_data: bytes
) -> None:
    authenticator = Authenticator(origin=platform.url)
    credential = authenticator.make((await begin(platform, owner)).json())
    credential["response"]["clientDataJSON"] = bytes_to_base64url(client_data)
    assert_problem(await add(platform, owner, credential), "invalid-challenge")
    signed = authenticator.sign(await options(platform))
    signed["response"]["clientDataJSON"] = bytes_to_base64url(client_data)
    assert_problem(await sign_in(platform, signed), "invalid-challenge")


async def test_challenge_of_a_new_passkey_is_for_one_session_and_one_use(platform: Platform, owner: Person) -> None:
    person = await platform.register()
    made_by = Authenticator(origin=platform.url)
    stolen = made_by.make((await begin(platform, owner)).json())
    other_session = await platform.login(owner)

    for thief in (person, other_session):
        assert_problem(await add(platform, thief, stolen), "invalid-challenge")
    assert (await add(platform, owner, stolen)).status_code == 201
    assert_problem(await add(platform, owner, stolen), "invalid-challenge")


async def test_challenges_are_of_one_purpose_and_expire(platform: Platform, owner: Person, valkey: Redis) -> None:
    authenticator = await made(platform, owner)
    registering = (await begin(platform, owner)).json()
    signing = await options(platform)

    crossed = authenticator.sign({**signing, "challenge": registering["challenge"]})
    assert_problem(await sign_in(platform, crossed), "invalid-challenge")
    made_up = authenticator.sign({**signing, "challenge": bytes_to_base64url(bytes(32))})
    assert_problem(await sign_in(platform, made_up), "invalid-challenge")
    key = f"hyderabad:passkey-challenge:sign-in:anyone:{base64url_to_bytes(signing['challenge']).hex()}"
    assert 0 < await valkey.ttl(key) <= 300
    await valkey.delete(key)
    assert_problem(await sign_in(platform, authenticator.sign(signing)), "invalid-challenge")


async def test_assertion_signs_in_once(platform: Platform, owner: Person) -> None:
    authenticator = await made(platform, owner)
    credential = authenticator.sign(await options(platform))

    answers = await asyncio.gather(*(sign_in(platform, credential) for _ in range(4)))

    assert sorted(answer.status_code for answer in answers) == [200, 400, 400, 400]
    assert_problem(await sign_in(platform, credential), "invalid-challenge")


@pytest.mark.parametrize(
    "wrong",
    [
        {"origin": "https://evil.example"},
        {"rp_id": "evil.example"},
        {"verifies_user": False},
        {"cross_origin": True},
        {"user_handle": bytes(16)},
        {"key": Authenticator().key},
        {"credential_id": b"unknown"},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
async def test_assertion_that_does_not_verify_is_refused(
    platform: Platform, owner: Person, wrong: dict[str, Any]
) -> None:
    authenticator = await made(platform, owner)

    answer = await sign_in(platform, replace(authenticator, **wrong).sign(await options(platform)))

    assert_problem(answer, "invalid-passkey")
    assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    ("field", "value"),
    [("signature", b"\x30\x00"), ("authenticatorData", bytes(36)), ("userHandle", b"\xff")],
    ids=["signature", "authenticatorData", "userHandle"],
)
async def test_altered_assertion_is_refused(platform: Platform, owner: Person, field: str, value: bytes) -> None:
    credential = (await made(platform, owner)).sign(await options(platform))
    credential["response"][field] = bytes_to_base64url(value)

    assert_problem(await sign_in(platform, credential), "invalid-passkey")


async def test_assertion_without_the_user_is_refused(platform: Platform, owner: Person) -> None:
    credential = (await made(platform, owner)).sign(await options(platform))
    del credential["response"]["userHandle"]

    assert_problem(await sign_in(platform, credential), "invalid-passkey")


async def test_forged_assertion_is_a_failed_sign_in_of_the_account(platform: Platform, owner: Person) -> None:
    forged = replace(await made(platform, owner), key=Authenticator().key)
    await sign_in(platform, forged.sign(await options(platform)))

    async def is_recorded() -> bool:
        answer = await platform.http.get("/api/users/profile/security-events", headers=owner.headers)
        return "LOGIN_FAILED" in {event["type"] for event in answer.json()["items"]}

    await until(is_recorded)


async def test_unknown_passkey_and_wrong_signature_get_the_same_problem(platform: Platform, owner: Person) -> None:
    known = replace(await made(platform, owner), key=Authenticator().key)
    unknown = replace(known, credential_id=b"unknown")

    first, second = [await sign_in(platform, key.sign(await options(platform))) for key in (known, unknown)]

    assert_problem(first, "invalid-passkey")
    assert (first.content, sorted(first.headers)) == (second.content, sorted(second.headers))


@pytest.mark.parametrize(
    "change", [{"type": "password"}, {"rawId": "not base64!"}, {"rawId": "AAAAA"}, {"response": {}}, {"id": "x" * 1404}]
)
async def test_credential_of_another_form_is_refused(platform: Platform, owner: Person, change: dict[str, Any]) -> None:
    credential = (await made(platform, owner)).sign(await options(platform))

    assert_problem(await sign_in(platform, {**credential, **change}), "invalid-request")


async def test_copied_passkey_is_noticed_by_its_count(platform: Platform, owner: Person) -> None:
    authenticator = await made(platform, owner)
    copy = replace(authenticator)
    assert (await sign_in(platform, authenticator.sign(await options(platform)))).status_code == 200

    assert_problem(await sign_in(platform, copy.sign(await options(platform))), "invalid-passkey")
    assert (await sign_in(platform, authenticator.sign(await options(platform)))).status_code == 200


async def test_authenticator_that_does_not_count_signs_in_again(platform: Platform, owner: Person) -> None:
    authenticator = await made(platform, owner, counts=False)

    for _ in range(2):
        assert (await sign_in(platform, authenticator.sign(await options(platform)))).status_code == 200


async def test_suspended_account_does_not_sign_in(platform: Platform, database: Database) -> None:
    person = await platform.register()
    authenticator = await made(platform, person)
    async with database.statements("hyderabad") as connection:
        suspend = "UPDATE user_management.users SET status = 'SUSPENDED' WHERE user_id = :user"
        await connection.execute(text(suspend), {"user": person.id})

    assert_problem(await sign_in(platform, authenticator.sign(await options(platform))), "account-closed")


async def test_passkey_is_of_one_tenant(platform: Platform, owner: Person, database: Database) -> None:
    """Also when the authenticator would sign for the other portal's domain."""
    authenticator = await made(platform, owner)
    elsewhere = await options(platform, **SECOND)
    assert elsewhere["rpId"] == "second.localhost"
    origin = platform.url.replace("127.0.0.1", "second.localhost")

    answer = await sign_in(platform, replace(authenticator, origin=origin).sign(elsewhere), **SECOND)

    assert_problem(answer, "invalid-passkey")
    async with database.statements("second") as connection:
        seen = text("SELECT count(*) FROM user_management.passkeys WHERE user_id = :user")
        assert (await connection.execute(seen, {"user": owner.id})).scalar_one() == 0


async def test_challenge_is_of_one_tenant(platform: Platform, owner: Person) -> None:
    authenticator = await made(platform, owner)

    credential = authenticator.sign({**await options(platform), **await options(platform, **SECOND)})

    assert_problem(await sign_in(platform, credential), "invalid-challenge")


async def test_portal_with_a_domain_of_its_own_has_passkeys_of_its_own(platform: Platform) -> None:
    person = await platform.register(host="second.localhost")
    origin = platform.url.replace("127.0.0.1", "second.localhost")
    authenticator = Authenticator(origin=origin)
    added = await add(platform, person, authenticator.make((await begin(platform, person, **SECOND)).json()), **SECOND)
    assert added.status_code == 201, added.text

    answer = await sign_in(platform, authenticator.sign(await options(platform, **SECOND)), **SECOND)

    assert answer.json()["user"]["id"] == person.id
