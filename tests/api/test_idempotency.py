"""Idempotency-Key: the first answer is the answer, also when Temporal has long forgotten the workflow."""

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
    """Have Temporal delete a workflow, as retention does."""
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

    await until(gone, seconds=90)  # the server deletes when it finds time


async def test_same_key_and_body_give_the_first_answer_even_when_the_workflow_is_gone(
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


async def test_keys_of_two_people_are_two_keys(platform: Platform) -> None:
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


async def test_command_that_is_still_running_is_answered_as_such(platform: Platform) -> None:
    """With no worker the command is durable and waits: 202, then 409 under its key, then done."""
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
    other = await platform.http.post("/api/auth/register", json={**body, "password": "another pass"}, headers=key)

    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json()["user"] == again.json()["user"]
    assert first.json()["refreshToken"] != again.json()["refreshToken"]
    assert_problem(other, "idempotency-key-reused")


async def test_repeated_registration_is_no_way_to_guess_a_password(platform: Platform) -> None:
    """A repetition is held to the account's password, and counts as an attempt at it."""
    body, key = registration(), {"Idempotency-Key": str(uuid4())}
    await platform.http.post("/api/auth/register", json=body, headers=key)

    async def guess(n: int) -> httpx.Response:
        return await platform.http.post("/api/auth/register", json={**body, "password": f"guess no. {n}"}, headers=key)

    answers = [await guess(n) for n in range(11)]

    for answer in answers[:10]:
        assert_problem(answer, "idempotency-key-reused")
    assert_problem(answers[10], "too-many-requests")


async def test_refusal_under_a_key_is_repeated(platform: Platform) -> None:
    taken = await platform.register()
    body, key = registration(email=taken.email), {"Idempotency-Key": str(uuid4())}

    for _ in range(2):
        answer = await platform.http.post("/api/auth/register", json=body, headers=key)
        assert_problem(answer, "email-taken", "email")


@pytest.mark.parametrize("spelling", ["  3BHK Apartment in Gachibowli", "3BHK Apartment in Gachibowli  "])
async def test_spelling_that_means_the_same_is_the_same_body(platform: Platform, spelling: str) -> None:
    person, key = await platform.register(), {"Idempotency-Key": str(uuid4())}
    first = await platform.create(person, key)

    again = await platform.http.post(
        "/api/properties", json=dict(reversed(listing(title=spelling).items())), headers={**person.headers, **key}
    )

    assert again.content == first.content
