"""Refusals of the API: each has its problem document, and nothing is stored."""

import json
import re
import time
from typing import Any
from uuid import uuid4

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import text

from adapters.postgres import Database
from api.errors import CHALLENGE, KINDS, REFUSED_TOKENS
from domain.errors import Refusal
from embedded.paths import ROOT
from tests.platform import Person, Platform, registration, until
from tests.samples import listing


@pytest.fixture(scope="module")
async def owner(platform: Platform) -> Person:
    return await platform.register()


def assert_problem(answer: httpx.Response, kind: str, field: str | None = None) -> dict[str, Any]:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    problem: dict[str, Any] = answer.json()
    assert problem["type"] == f"/problems/{kind}", problem
    assert (problem["status"], problem["title"]) == (KINDS[kind].status, KINDS[kind].title)
    assert answer.status_code == problem["status"]
    assert problem["detail"]
    if field is not None:
        assert field in {fault["field"] for fault in problem["errors"]}, problem
        assert all(fault["reason"] for fault in problem["errors"])
    return problem


async def stored(all_tenants: Database) -> tuple[int, int, int]:
    async with all_tenants.transaction() as tx:
        row = (
            await tx.execute(
                text(
                    "SELECT (SELECT count(*) FROM user_history.event_store),"
                    " (SELECT count(*) FROM user_history.commands),"
                    " (SELECT count(*) FROM property_management.properties)"
                )
            )
        ).one()
        return row[0], row[1], row[2]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"castle": True}, "castle"),
        ({"price": "8500000"}, "price"),
        ({"price": 0.5}, "price"),
        ({"price": None}, "price"),
        ({"title": "x" * 201}, "title"),
        ({"title": "a\u0000b in the title"}, "title"),
        ({"description": "x" * 5001}, "description"),
        ({"propertyType": "CASTLE"}, "propertyType"),
        ({"listingType": 7}, "listingType"),
        ({"latitude": 51.5, "longitude": -0.1}, "latitude"),
        ({"latitude": 17.4}, "body"),
        ({"amenities": ["Lift", 7]}, "amenities.1"),
        ({"contactEmail": "nobody"}, "contactEmail"),
        ({"status": "SOLD"}, "status"),
        ({"ownerId": str(uuid4())}, "ownerId"),
        ({"tenantId": "second"}, "tenantId"),
    ],
)
async def test_invalid_field_is_named_and_nothing_is_stored(
    platform: Platform, all_tenants: Database, owner: Person, change: dict[str, Any], field: str
) -> None:
    before = await stored(all_tenants)

    answer = await platform.create(owner, **change)

    assert_problem(answer, "invalid-request", field)
    assert await stored(all_tenants) == before


@pytest.mark.parametrize(
    ("content", "media", "kind"),
    [
        (b"{", "application/json", "malformed-json"),
        (b"", "application/json", "invalid-request"),
        (b"[]", "application/json", "invalid-request"),
        (b"null", "application/json", "invalid-request"),
        (b'{"title": "\xff"}', "application/json", "malformed-json"),
        (b"[" * 100_000, "application/json", "malformed-json"),
        (b'{"price": ' + b"9" * 5000 + b"}", "application/json", "malformed-json"),
        (json.dumps(listing()).replace("8500000", "1e999").encode(), "application/json", "invalid-request"),
        (json.dumps(listing()).encode(), "text/plain", "unsupported-media-type"),
        (json.dumps(listing()).encode(), "", "unsupported-media-type"),
        (b"title=flat", "application/x-www-form-urlencoded", "unsupported-media-type"),
        (json.dumps(listing(description="x" * 1_000_001)).encode(), "application/json", "body-too-large"),
    ],
)
async def test_invalid_body_is_refused(
    platform: Platform, all_tenants: Database, owner: Person, content: bytes, media: str, kind: str
) -> None:
    before = await stored(all_tenants)

    answer = await platform.http.post(
        "/api/properties", content=content, headers={**owner.headers, "Content-Type": media}
    )

    assert_problem(answer, kind)
    assert await stored(all_tenants) == before


async def test_body_without_content_length_is_refused_above_the_limit(platform: Platform, owner: Person) -> None:
    async def endless() -> Any:
        for _ in range(40):
            yield b"x" * 50_000

    answer = await platform.http.post(
        "/api/properties", content=endless(), headers={**owner.headers, "Content-Type": "application/json"}
    )

    assert_problem(answer, "body-too-large")


def forged(**change: Any) -> str:
    now = int(time.time())
    claims = {
        "iss": "hyderabad-infra",
        "aud": "hyderabad-infra-api",
        "sub": str(uuid4()),
        "tenant": "hyderabad",
        "role": "ADMIN",
        "iat": now,
        "exp": now + 900,
        **change,
    }
    return jwt.encode(claims, Ed25519PrivateKey.generate(), algorithm="EdDSA", headers={"kid": change.get("kid")})


def unsigned(token: str) -> str:
    claims = jwt.decode(token, options={"verify_signature": False})
    return jwt.encode(claims, "", algorithm="none", headers={"kid": jwt.get_unverified_header(token)["kid"]})


async def test_invalid_tokens_are_refused(platform: Platform, stack: Any, owner: Person) -> None:
    kid = jwt.get_unverified_header(owner.access_token)["kid"]
    key = (await platform.http.get("/.well-known/jwks.json")).json()["keys"][0]
    claims = jwt.decode(owner.access_token, options={"verify_signature": False})
    head, body, signature = owner.access_token.split(".")
    confused = jwt.encode(claims, key["x"].encode().ljust(32, b"="), algorithm="HS256", headers={"kid": kid})
    expired = jwt.encode(
        {**claims, "exp": int(time.time()) - 1}, stack.env["JWT_PRIVATE_KEY"], algorithm="EdDSA", headers={"kid": kid}
    )
    for token, kind in {
        forged(kid=kid): "invalid-token",
        unsigned(owner.access_token): "invalid-token",
        confused: "invalid-token",
        f"{head}.{body}.{signature[::-1]}": "invalid-token",
        f"{head}.{body}.": "invalid-token",
        "not.a.token": "invalid-token",
        "garbage": "invalid-token",
        expired: "expired-token",
    }.items():
        answer = await platform.http.post(
            "/api/properties", json=listing(), headers={"Authorization": f"Bearer {token}"}
        )
        assert_problem(answer, kind)
        assert answer.headers["www-authenticate"] == (
            f'{CHALLENGE}, error="invalid_token", error_description="{KINDS[kind].title}"'
        )


@pytest.mark.parametrize(
    ("header", "has_error"),
    [({}, False), ({"Authorization": "Basic cmF2aTpwdw=="}, False), ({"Authorization": "Bearer"}, True)],
)
async def test_request_without_a_token_is_unauthenticated(
    platform: Platform, header: dict[str, str], has_error: bool
) -> None:
    """Without an error code when no bearer token was tried (RFC 6750, section 3.1)."""
    answer = await platform.http.post("/api/properties", json=listing(), headers=header)

    assert_problem(answer, "invalid-token" if header else "unauthenticated")
    challenge = answer.headers["www-authenticate"]
    assert challenge.startswith(CHALLENGE)
    assert ("error" in challenge) == has_error


async def test_challenge_of_a_failed_sign_in_says_nothing_of_a_token(platform: Platform) -> None:
    """Every 401 has a challenge (RFC 9110, section 15.5.2), but no access token was refused."""
    wrong = {"emailOrUsername": "nobody@example.com", "password": "not the password"}
    answers = {
        "invalid-credentials": await platform.http.post("/api/auth/login", json=wrong),
        "invalid-refresh-token": await platform.http.post("/api/auth/refresh", json={"refreshToken": "made-up"}),
    }

    for kind, answer in answers.items():
        assert_problem(answer, kind)
        assert answer.headers["www-authenticate"] == CHALLENGE


def test_title_of_a_refused_token_may_be_in_a_header() -> None:
    """`error_description` has neither quotes nor backslashes (RFC 6750, section 3)."""
    for kind in REFUSED_TOKENS:
        assert re.fullmatch(r"[\x20-\x21\x23-\x5b\x5d-\x7e]+", KINDS[kind].title)


async def test_resources_of_other_users_are_not_found(platform: Platform, owner: Person) -> None:
    stranger = await platform.register()
    created = await platform.create(owner)

    for path in (
        f"/api/user-history/{owner.id}",
        f"/api/properties/{created.json()['id']}/history",
        f"/api/commands/{created.headers['command-id']}",
    ):
        assert (await platform.http.get(path, headers=owner.headers)).status_code == 200, path
        assert_problem(await platform.http.get(path, headers=stranger.headers), "not-found")


async def test_command_whose_mail_was_refused_is_completed_with_a_failed_stage(
    platform: Platform, database: Database, owner: Person
) -> None:
    command = (await platform.create(owner)).headers["command-id"]

    async def current() -> dict[str, Any]:
        state: dict[str, Any] = (await platform.http.get(f"/api/commands/{command}", headers=owner.headers)).json()
        return state

    async def stages() -> dict[str, str]:
        state = await current()
        assert state["status"] == "COMPLETED"
        return {stage["name"]: stage["status"] for stage in state["stages"]}

    async def notified() -> bool:
        return (await stages())["notified"] == "DONE"

    await until(notified)
    async with database.transaction("hyderabad") as tx:
        refused = (
            "UPDATE notification.deliveries SET sent_at = NULL, given_up = 'no such mailbox', outcome = 'bad_address' "
            "WHERE command_id = :id AND channel = 'email'"
        )
        await tx.execute(text(refused), {"id": command})

    assert await stages() == {"saved": "DONE", "published": "DONE", "notified": "FAILED"}
    assert (await current())["deliveries"] == [
        {"channel": "email", "outcome": "bad_address", "count": 1, "reason": "no such mailbox"},
        {"channel": "in-app", "outcome": "sent", "count": 1, "reason": None},
    ]


async def test_draft_is_for_its_owner_only(platform: Platform, owner: Person) -> None:
    path = (await platform.create(owner, status="DRAFT")).headers["location"]

    stranger = await platform.register()
    assert_problem(await platform.http.get(path), "not-found")
    assert_problem(await platform.http.get(path, headers=stranger.headers), "not-found")
    assert (await platform.http.get(path, headers=owner.headers)).status_code == 200


@pytest.mark.parametrize("cursor", ["", "x", "AAAA", "%00", "A" * 60, "../../etc/passwd"])
async def test_cursor_with_a_wrong_signature_is_refused(platform: Platform, owner: Person, cursor: str) -> None:
    answer = await platform.http.get(f"/api/user-history/{owner.id}", params={"cursor": cursor}, headers=owner.headers)

    assert_problem(answer, "invalid-cursor")


async def test_cursor_of_another_list_is_refused(platform: Platform, owner: Person) -> None:
    stranger = await platform.register()
    for _ in range(2):
        token = (await platform.create(owner)).headers["consistency-token"]
    page = await platform.http.get(
        f"/api/user-history/{owner.id}", params={"limit": 1}, headers={**owner.headers, "Consistency-Token": token}
    )
    cursor = page.json()["nextCursor"]
    flipped = cursor[:-3] + ("A" if cursor[-3] != "A" else "B") + cursor[-2:]

    for person, text_of_cursor in ((stranger, cursor), (owner, flipped)):
        answer = await platform.http.get(
            f"/api/user-history/{person.id}", params={"cursor": text_of_cursor}, headers=person.headers
        )
        assert_problem(answer, "invalid-cursor")


@pytest.mark.parametrize("token", ["x", "a.b", ".", "01a206f0-ea63-77b4-bffc-cc3a069ddc49.AAAA"])
async def test_consistency_token_with_wrong_signature_is_refused(platform: Platform, owner: Person, token: str) -> None:
    answer = await platform.http.get(
        f"/api/user-history/{owner.id}", headers={**owner.headers, "Consistency-Token": token}
    )

    assert_problem(answer, "invalid-consistency-token")


async def test_header_that_is_too_long_is_named(platform: Platform, owner: Person) -> None:
    headers = {**owner.headers, "Consistency-Token": "A" * 201}

    answer = await platform.http.get(f"/api/user-history/{owner.id}", headers=headers)

    assert_problem(answer, "invalid-request", "header.Consistency-Token")


@pytest.mark.parametrize("limit", ["0", "101", "-1", "ten", "1e3", "NaN"])
async def test_limit_is_a_number_between_1_and_100(platform: Platform, owner: Person, limit: str) -> None:
    answer = await platform.http.get(f"/api/user-history/{owner.id}", params={"limit": limit}, headers=owner.headers)

    assert_problem(answer, "invalid-request", "query.limit")


async def test_unknown_paths_and_methods_are_problems(platform: Platform, owner: Person) -> None:
    assert_problem(await platform.http.get("/api/castles"), "not-found")
    assert_problem(await platform.http.delete("/api/auth/login"), "method-not-allowed")
    assert_problem(await platform.http.get("/api/properties/not-a-uuid"), "invalid-request", "path.property_id")
    assert_problem(await platform.http.get(f"/api/properties/{uuid4()}"), "not-found")
    assert_problem(await platform.http.get(f"/api/commands/{uuid4()}", headers=owner.headers), "not-found")


async def test_name_that_is_taken_is_refused_with_its_field(platform: Platform, owner: Person) -> None:
    for field, value, kind in (("email", owner.email, "email-taken"), ("username", owner.username, "username-taken")):
        answer = await platform.http.post("/api/auth/register", json=registration(**{field: value}))
        assert_problem(answer, kind, field)


async def test_registration_as_administrator_is_refused(platform: Platform) -> None:
    answer = await platform.http.post("/api/auth/register", json=registration(role="ADMIN"))

    assert_problem(answer, "invalid-request", "role")


async def test_problem_does_not_contain_the_password(platform: Platform) -> None:
    answer = await platform.http.post("/api/auth/register", json=registration(password="sesame!"))

    assert_problem(answer, "invalid-request", "password")
    assert "sesame" not in answer.text


@pytest.mark.parametrize("key", ["", "x" * 256, "naïve"])
async def test_invalid_idempotency_key_is_refused(platform: Platform, owner: Person, key: str) -> None:
    headers = [(name.encode(), value.encode()) for name, value in owner.headers.items()]
    answer = await platform.http.post(
        "/api/properties", json=listing(), headers=[*headers, (b"Idempotency-Key", key.encode())]
    )

    assert_problem(answer, "invalid-idempotency-key")


def subclasses(refusal: type[Refusal]) -> set[type[Refusal]]:
    """All subclasses, also indirect ones."""
    return {found for child in refusal.__subclasses__() for found in (child, *subclasses(child))}


def test_every_refusal_has_its_row_in_the_table_of_errors() -> None:
    assert {refusal.code for refusal in subclasses(Refusal)} - KINDS.keys() == set()


def test_every_row_of_the_table_of_errors_is_expected_by_a_test() -> None:
    # Not by test_openapi.py, which expects a kind in the document, nor by what records histories.
    files = [file for file in (ROOT / "tests").rglob("test_*.py") if file.name != "test_openapi.py"]
    expected = set(re.findall(r'"(?:/problems/)?([a-z-]+)"', "".join(file.read_text() for file in files)))

    assert KINDS.keys() - expected == set()


async def test_every_problem_has_a_page(platform: Platform) -> None:
    for kind in KINDS:
        page = (await platform.http.get(f"/problems/{kind}")).json()
        assert (page["title"], page["advice"]) == (KINDS[kind].title, KINDS[kind].advice)
    assert_problem(await platform.http.get("/problems/unheard-of"), "not-found")


async def test_listed_origin_is_allowed(platform: Platform) -> None:
    for origin, allowed in (("https://portal.example", "https://portal.example"), ("https://evil.example", None)):
        answer = await platform.http.get("/livez", headers={"Origin": origin})
        assert answer.headers.get("access-control-allow-origin") == allowed


async def test_documentation_loads_no_external_files(platform: Platform) -> None:
    page = (await platform.http.get("/docs")).text

    assert "https://" not in page
    for asset in ("swagger-ui-bundle.js", "swagger-ui.css"):
        assert (await platform.http.get(f"/static/swagger/{asset}")).status_code == 200


async def test_metrics_count_commands(platform: Platform, owner: Person) -> None:
    await platform.create(owner)

    metrics = (await platform.http.get("/metrics")).text

    assert 'commands_total{command="create-property",outcome="saved"}' in metrics
    assert 'route="/api/properties"' in metrics
