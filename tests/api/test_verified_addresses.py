"""A portal that requires a verified e-mail address before a listing becomes public."""

from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from adapters.postgres import Database
from adapters.sealing import Keyring
from tests.api.test_contract import assert_problem
from tests.platform import Person, Platform, until

STRICT = {"Host": "strict.localhost"}


@pytest.fixture
async def owner(platform: Platform) -> Person:
    return await platform.register(host=STRICT["Host"])


async def verify(platform: Platform, database: Database, keyring: Keyring, person: Person) -> None:
    """Verify the address of a person by the link of the first mail."""
    query = text("SELECT event_id FROM user_history.event_store WHERE aggregate_id = :user AND version = 1")

    async def registration() -> UUID | None:
        async with database.statements("strict") as connection:
            found: UUID | None = (await connection.execute(query, {"user": person.id})).scalar_one_or_none()
            return found

    event_id = await until(registration)
    assert event_id
    answer = await platform.http.post(
        "/api/auth/verify-email", json={"token": keyring.link_token(event_id)}, headers=STRICT
    )
    assert answer.status_code == 204, answer.text


async def test_owner_publishes_a_draft_once_the_address_is_verified(
    platform: Platform, database: Database, keyring: Keyring, owner: Person
) -> None:
    refused = assert_problem(await platform.create(owner, STRICT), "email-not-verified")
    assert "resend-verification" in refused["detail"]
    drafted = await platform.create(owner, STRICT, status="DRAFT")
    assert drafted.status_code == 201, drafted.text
    path, publish = drafted.headers["location"], {"status": "ACTIVE"}

    async def status(key: str, if_match: str = '"1"') -> Any:
        headers = {**STRICT, "Idempotency-Key": key}
        return await platform.change(owner, "PUT", f"{path}/status", publish, if_match=if_match, headers=headers)

    first = str(uuid4())
    assert_problem(await status(first), "email-not-verified")
    await verify(platform, database, keyring, owner)
    assert_problem(await status(first), "email-not-verified")
    published = await status(str(uuid4()))

    assert (published.status_code, published.json()["status"]) == (200, "ACTIVE"), published.text
    assert (await platform.http.get(path, headers=STRICT)).json() == published.json()
    assert (await platform.create(owner, STRICT)).status_code == 201


async def test_other_portals_publish_at_once(platform: Platform) -> None:
    for host in ("localhost", "second.localhost"):
        person = await platform.register(host=host)
        created = await platform.create(person, {"Host": host})
        assert (created.status_code, created.json()["status"]) == (201, "ACTIVE")
