"""Idempotency-Key: a repetition gets the first answer, also after the workflow is deleted."""

import asyncio
import os
import signal
from uuid import uuid4

import httpx
import pytest
from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest
from temporalio.client import Client
from temporalio.service import RPCError

from tests.api.test_contract import assert_problem
from tests.platform import Platform, registration, until
from tests.samples import listing


async def forget(client: Client, workflow_id: str) -> None:
    """Delete a workflow, as Temporal does after the retention period."""
    await client.get_workflow_handle(workflow_id).result()
    await client.workflow_service.delete_workflow_execution(
        DeleteWorkflowExecutionRequest(
            namespace=client.namespace,
            workflow_execution={"workflow_id": workflow_id},  # type: ignore[arg-type]
        )
    )

    async def gone() -> bool:
        try:
            await client.get_workflow_handle(workflow_id).describe()
        except RPCError:
            return True
        return False

    await until(gone, seconds=90)  # the server deletes asynchronously


async def test_same_key_and_body_give_the_first_answer_after_the_workflow_is_deleted(
    platform: Platform, temporal_client: Client
) -> None:
    person, key = await platform.register(), {"Idempotency-Key": str(uuid4())}
    first = await platform.create(person, key, contactPhone="9848022338")
    again = await platform.create(person, key, contactPhone="98480 22338")
    await forget(temporal_client, f"create-property/{first.headers['command-id']}")
    much_later = await platform.create(person, key, contactPhone="+919848022338")

    for repeated in (again, much_later):
        assert (repeated.status_code, repeated.content) == (201, first.content)
        for header in ("location", "etag", "command-id", "consistency-token"):
            assert repeated.headers[header] == first.headers[header]
        assert repeated.headers["idempotency-replayed"] == "true"
    assert_problem(await platform.create(person, key, price=1), "idempotency-key-reused")
    assert len(await platform.history(person, first.headers["consistency-token"])) == 2


async def test_same_key_with_another_body_is_refused(platform: Platform) -> None:
    person, key = await platform.register(), {"Idempotency-Key": "my key"}
    await platform.create(person, key)

    assert_problem(await platform.create(person, key, price=1), "idempotency-key-reused")


async def test_same_key_of_two_users_is_two_commands(platform: Platform) -> None:
    key = {"Idempotency-Key": "1"}

    first = await platform.create(await platform.register(), key)
    second = await platform.create(await platform.register(), key, price=2)

    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json()["id"] != second.json()["id"]


async def test_key_used_by_many_at_once_creates_one_property(platform: Platform) -> None:
    person, key = await platform.register(), {"Idempotency-Key": str(uuid4())}

    answers = await asyncio.gather(*(platform.create(person, key) for _ in range(8)))
    final = await platform.create(person, key)

    assert {answer.status_code for answer in answers} <= {201, 409}
    assert {answer.json()["id"] for answer in answers if answer.status_code == 201} == {final.json()["id"]}
    for answer in answers:
        if answer.status_code == 409:
            assert_problem(answer, "command-running")


async def test_repetition_of_a_running_command_is_409(platform: Platform) -> None:
    """While the worker is stopped: 202, then 409 for the same key; afterwards the first answer."""
    person, key = await platform.register(), {"Idempotency-Key": str(uuid4())}
    worker = platform.stack.processes["worker"].pid
    assert worker
    os.kill(worker, signal.SIGSTOP)
    try:
        accepted = await platform.create(person, key)
        repeated = await platform.create(person, key)
        other = await platform.create(person, key, price=1)
        state = await platform.http.get(accepted.headers["location"], headers=person.headers)
    finally:
        os.kill(worker, signal.SIGCONT)

    assert accepted.status_code == 202
    assert accepted.headers["location"] == f"/api/commands/{accepted.headers['command-id']}"
    assert_problem(repeated, "command-running")
    assert_problem(other, "idempotency-key-reused")
    assert state.json()["status"] == "RUNNING"

    async def completed() -> bool:
        answer = await platform.http.get(accepted.headers["location"], headers=person.headers)
        return bool(answer.json()["status"] == "COMPLETED")

    await until(completed)
    assert (await platform.create(person, key)).status_code == 201


async def test_registering_twice_with_one_key_opens_one_account(platform: Platform) -> None:
    body, key = registration(), {"Idempotency-Key": str(uuid4())}

    first = await platform.http.post("/api/auth/register", json=body, headers=key)
    again = await platform.http.post("/api/auth/register", json=body, headers=key)
    other = await platform.http.post("/api/auth/register", json={**body, "password": "another lamp orbit"}, headers=key)

    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json()["user"] == again.json()["user"]
    assert first.json()["refreshToken"] != again.json()["refreshToken"]
    assert_problem(other, "idempotency-key-reused")


async def test_repeated_registration_with_another_password_is_refused_and_limited(platform: Platform) -> None:
    """A repetition is checked against the account's password, and counts as a sign-in attempt."""
    body, key = registration(), {"Idempotency-Key": str(uuid4())}
    await platform.http.post("/api/auth/register", json=body, headers=key)

    async def guess(n: int) -> httpx.Response:
        return await platform.http.post(
            "/api/auth/register", json={**body, "password": f"guess number {n} of a stranger"}, headers=key
        )

    answers = [await guess(n) for n in range(6)]

    for answer in answers[:5]:
        assert_problem(answer, "idempotency-key-reused")
    assert_problem(answers[5], "too-many-requests")


async def test_same_key_with_another_if_match_is_another_request(platform: Platform) -> None:
    """The first one was refused for good, so the client has to take a new key."""
    owner = await platform.register()
    path = (await platform.create(owner)).headers["location"]
    headers = {**owner.headers, "Idempotency-Key": str(uuid4())}

    stale = await platform.http.patch(path, json={"price": 1}, headers={**headers, "If-Match": '"7"'})
    repeated = await platform.http.patch(path, json={"price": 1}, headers={**headers, "If-Match": '"7"'})
    current = await platform.http.patch(path, json={"price": 1}, headers={**headers, "If-Match": '"1"'})

    assert "new Idempotency-Key" in assert_problem(stale, "version-conflict")["detail"]
    assert_problem(repeated, "version-conflict")
    assert_problem(current, "idempotency-key-reused")


async def test_same_key_gives_the_first_refusal(platform: Platform) -> None:
    taken = await platform.register()
    body, key = registration(email=taken.email), {"Idempotency-Key": str(uuid4())}

    for _ in range(2):
        answer = await platform.http.post("/api/auth/register", json=body, headers=key)
        assert_problem(answer, "email-taken", "email")


@pytest.mark.parametrize("spelling", ["  3BHK Apartment in Gachibowli", "3BHK Apartment in Gachibowli  "])
async def test_bodies_that_are_equal_after_normalization_are_the_same(platform: Platform, spelling: str) -> None:
    person, key = await platform.register(), {"Idempotency-Key": str(uuid4())}
    first = await platform.create(person, key)

    again = await platform.http.post(
        "/api/properties", json=dict(reversed(listing(title=spelling).items())), headers={**person.headers, **key}
    )

    assert again.content == first.content
