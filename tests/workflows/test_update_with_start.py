"""Update-with-start on a real server: one call starts the workflow and returns the saved answer."""

import asyncio
from typing import Any

import pytest
from temporalio.client import Client, WithStartWorkflowOperation, WorkflowUpdateFailedError
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.exceptions import ApplicationError

from domain.command import Saved
from domain.property_commands import CreateProperty
from tests.samples import create_property, new_id, sent
from tests.workflows.conftest import Workers
from tests.workflows.fakes import Script, refusal, unavailable
from workflows import options
from workflows.create_property import CreatePropertyWorkflow

pytestmark = pytest.mark.temporal


async def create(client: Client, command: CreateProperty) -> Saved:
    start = WithStartWorkflowOperation(
        CreatePropertyWorkflow.run,
        sent(command),
        id=f"create-property/{command.command_id}",
        task_queue=options.COMMANDS,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
    )
    return await client.execute_update_with_start_workflow(
        # The library's types have no case for an update without an argument.
        CreatePropertyWorkflow.saved,  # type: ignore[arg-type]
        start_workflow_operation=start,
        id="saved",
    )


def finished(client: Client, command: CreateProperty) -> Any:
    return client.get_workflow_handle(f"create-property/{command.command_id}").result()


async def test_answer_comes_when_the_property_is_saved(apart: Client, workers: Workers) -> None:
    command = create_property("hyderabad", new_id())

    async with workers(apart, Script()):
        saved = await create(apart, command)
        await finished(apart, command)

    assert saved.aggregate_id == command.property_id


async def test_answer_does_not_wait_for_a_broker_that_is_unavailable(apart: Client, workers: Workers) -> None:
    script, command = Script(publish=unavailable(2)), create_property("hyderabad", new_id())

    async with workers(apart, script):
        await create(apart, command)
        published_when_answered = script.attempts("publish") > 2
        await finished(apart, command)

    assert not published_when_answered
    assert script.attempts("publish") == 3


async def test_update_fails_with_the_refusal(apart: Client, workers: Workers) -> None:
    command = create_property("hyderabad", new_id())

    async with workers(apart, Script(save_property=refusal("account-closed", "ownerId"))):
        with pytest.raises(WorkflowUpdateFailedError) as failure:
            await create(apart, command)

    assert isinstance(failure.value.cause, ApplicationError)
    assert (failure.value.cause.type, failure.value.cause.details[0]) == ("account-closed", "ownerId")


async def test_command_sent_concurrently_runs_once(apart: Client, workers: Workers) -> None:
    script, command = Script(), create_property("hyderabad", new_id())

    async with workers(apart, script):
        answers = await asyncio.gather(*(create(apart, command) for _ in range(5)))
        await finished(apart, command)

    assert script.attempts("save_property") == 1
    assert all(answer == answers[0] for answer in answers)
