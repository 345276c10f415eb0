"""The state of a command that ends while it is read, and the canonical form of bodies."""

import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import Field, SecretStr
from temporalio.client import Client, WorkflowExecutionDescription, WorkflowFailureError

from adapters import event_store, temporal
from adapters.postgres import Database
from adapters.sealing import Keyring
from adapters.settings import Settings
from api.commands import Commands, canonical
from api.opaque import Signer
from domain.model import Model
from domain.property_commands import CreateProperty
from tests.platform import Platform, registration, until
from tests.samples import create_property, new_id
from workflows import options
from workflows.create_property import CreatePropertyWorkflow
from workflows.registry import workflow_id


class RacingCommands(Commands):
    """Awaits `meanwhile` between the read of the record and the description of the workflow."""

    meanwhile: Callable[[], Awaitable[None]]

    async def _described(self, type: str, command_id: UUID) -> WorkflowExecutionDescription | None:
        if type == "create-property":
            await self.meanwhile()
        return await super()._described(type, command_id)


@pytest.fixture
def commands(temporal_client: Client, database: Database, keyring: Keyring, settings: Settings) -> RacingCommands:
    return RacingCommands(temporal_client, database, keyring, Signer(settings.secret_bytes), settings)


@asynccontextmanager
async def waiting(
    platform: Platform, client: Client, keyring: Keyring, command: CreateProperty
) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Start a command while the worker is stopped; yields a function that resumes the worker and awaits the end."""
    worker = platform.stack.processes["worker"].pid
    assert worker
    os.kill(worker, signal.SIGSTOP)
    try:
        handle = await client.start_workflow(
            CreatePropertyWorkflow.run,
            keyring.seal_in_transit(command, command.command_id),
            id=workflow_id(command.type, command.command_id),
            task_queue=options.COMMANDS,
            search_attributes=temporal.search_attributes_of(command, keyring),
        )

        async def end() -> None:
            os.kill(worker, signal.SIGCONT)
            await handle.result()

        yield end
    finally:
        os.kill(worker, signal.SIGCONT)


async def test_command_that_is_saved_while_its_state_is_read_is_completed(
    platform: Platform, temporal_client: Client, keyring: Keyring, commands: RacingCommands
) -> None:
    person = await platform.register()
    command = create_property("hyderabad", UUID(person.id))

    async with waiting(platform, temporal_client, keyring, command) as commands.meanwhile:
        state = await commands.find("hyderabad", command.user_id, command.command_id)

    assert state is not None
    assert (state["status"], state["problem"]) == ("COMPLETED", None)
    assert state["result"]["aggregateId"] == str(command.property_id)


async def test_command_that_is_refused_while_its_state_is_read_has_its_problem(
    platform: Platform, temporal_client: Client, keyring: Keyring, commands: RacingCommands
) -> None:
    command = create_property("hyderabad", new_id())

    async with waiting(platform, temporal_client, keyring, command) as commands.meanwhile:
        state = await commands.find("hyderabad", command.user_id, command.command_id)

    assert state is not None
    assert (state["status"], state["problem"]["type"]) == ("REFUSED", "/problems/account-closed")


async def test_running_command_of_another_user_is_not_found(
    platform: Platform, temporal_client: Client, keyring: Keyring, commands: RacingCommands
) -> None:
    command = create_property("hyderabad", new_id())

    async def nothing() -> None:
        pass

    commands.meanwhile = nothing
    async with waiting(platform, temporal_client, keyring, command) as end:
        of_the_sender = await commands.find("hyderabad", command.user_id, command.command_id)
        of_a_stranger = await commands.find("hyderabad", new_id(), command.command_id)
        in_another_tenant = await commands.find("second", command.user_id, command.command_id)
        await end()

    assert of_the_sender is not None
    assert of_the_sender["status"] == "RUNNING"
    assert (of_a_stranger, in_another_tenant) == (None, None)


async def test_command_whose_workflow_was_terminated_has_failed(
    platform: Platform, temporal_client: Client, keyring: Keyring, commands: RacingCommands
) -> None:
    command = create_property("hyderabad", new_id())

    async with waiting(platform, temporal_client, keyring, command):
        handle = temporal_client.get_workflow_handle(workflow_id(command.type, command.command_id))
        commands.meanwhile = handle.terminate
        state = await commands.find("hyderabad", command.user_id, command.command_id)

    assert state is not None
    assert (state["status"], state["problem"]["type"]) == ("FAILED", "/problems/command-failed")


async def test_command_that_no_worker_can_read_has_failed(
    platform: Platform, temporal_client: Client, keyring: Keyring
) -> None:
    person = await platform.register()
    command = create_property("hyderabad", UUID(person.id), contactPhone="9848022338")
    handle = await temporal_client.start_workflow(
        CreatePropertyWorkflow.run,
        Keyring(b"another" * 5).seal_in_transit(command, command.command_id),
        id=workflow_id(command.type, command.command_id),
        task_queue=options.COMMANDS,
        search_attributes=temporal.search_attributes_of(command, keyring),
    )

    async def ended() -> dict[str, Any] | None:
        answer = await platform.http.get(f"/api/commands/{command.command_id}", headers=person.headers)
        state: dict[str, Any] = answer.json()
        return None if state["status"] == "RUNNING" else state

    state = await until(ended)
    assert state is not None
    with pytest.raises(WorkflowFailureError) as failed:
        await handle.result()

    assert (state["status"], state["problem"]["type"]) == ("FAILED", "/problems/command-failed")
    assert "contactPhone" in str(failed.value.cause)


class Place(Model):
    latitude: float
    note: str | None = None


class Sent(Model):
    title: str
    place: Place | None = None
    city: str = "Hyderabad"
    password: SecretStr = SecretStr("")


class PlaceOfALaterRelease(Model):
    note: str | None = None
    altitude: int | None = None
    latitude: float


class SentToALaterRelease(Model):
    city: str = "Secunderabad"
    facing: str = "NORTH"
    password: SecretStr = SecretStr("")
    labels: tuple[str, ...] = Field(())
    place: PlaceOfALaterRelease | None = None
    title: str


@pytest.mark.parametrize(
    "body",
    [
        {"title": "A flat"},
        {"title": "A flat", "city": "Hyderabad"},
        {"title": "A flat", "place": None},
        {"title": "A flat", "place": {"note": "by the lake", "latitude": 17.4}},
    ],
)
def test_canonical_body_is_the_same_in_a_release_with_more_fields(body: dict[str, Any]) -> None:
    assert canonical(Sent.model_validate(body)) == canonical(SentToALaterRelease.model_validate(body))


def test_canonical_bodies_differ_when_a_field_differs() -> None:
    bodies = [{"title": "A flat"}, {"title": "A flat", "place": None}, {"title": "A house"}]

    assert len({canonical(Sent.model_validate(body)) for body in bodies}) == 3


def test_canonical_body_has_no_password() -> None:
    bodies = [{"title": "A flat", "password": password} for password in ("correct horse", "battery staple")]

    assert len({canonical(Sent.model_validate(body)) for body in bodies}) == 1


async def test_fingerprint_of_a_registration_does_not_depend_on_its_password(
    platform: Platform, database: Database
) -> None:
    """HMAC is fast: with a dump and the server's key, passwords could be guessed from it."""
    key, fingerprints = {"Idempotency-Key": str(uuid4())}, set()
    for tenant, host, password in (
        ("hyderabad", "127.0.0.1", "correct horse battery"),
        ("second", "second.localhost", "another horse battery"),
    ):
        body = registration(username=f"u{key['Idempotency-Key'][:8]}", password=password)
        body["email"] = f"{body['username']}@example.com"
        answer = await platform.http.post("/api/auth/register", json=body, headers={**key, "Host": host})
        async with database.statements(tenant) as connection:
            recorded = await event_store.recorded_command(connection, UUID(answer.headers["command-id"]))
        assert recorded is not None
        fingerprints.add(recorded.fingerprint)

    # The requests differ in host and password only, and the host is not part of the body.
    assert len(fingerprints) == 1
