"""Command workflows with time skipping: what is retried, for how long, and the outcome."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from temporalio.client import WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment

from tests.samples import create_property, new_id, sent
from tests.workflows.conftest import Workers
from tests.workflows.fakes import Script, refusal, unavailable
from worker import DRAIN
from workflows import options
from workflows.create_property import CreatePropertyWorkflow
from workflows.reconcile import ReconcileWorkflow


async def create(environment: WorkflowEnvironment) -> WorkflowHandle[CreatePropertyWorkflow, str]:
    command = create_property("hyderabad", new_id())
    return await environment.client.start_workflow(
        CreatePropertyWorkflow.run,
        sent(command),
        id=f"create-property/{command.command_id}",
        task_queue=options.COMMANDS,
    )


async def lasted(handle: WorkflowHandle[Any, str]) -> timedelta:
    description = await handle.describe()
    assert description.close_time is not None
    return description.close_time - description.start_time


async def test_property_is_saved_then_published(skipping: WorkflowEnvironment, workers: Workers) -> None:
    script = Script()

    async with workers(skipping.client, script):
        outcome = await (await create(skipping)).result()

    assert script.calls == ["save_property", "publish"]
    assert outcome.endswith("version 1: PROPERTY_CREATED")


async def test_command_that_changes_nothing_publishes_nothing(skipping: WorkflowEnvironment, workers: Workers) -> None:
    script = Script(changes=False)

    async with workers(skipping.client, script):
        outcome = await (await create(skipping)).result()

    assert script.calls == ["save_property"]
    assert outcome.endswith("version 0: nothing changed")


async def test_publishing_waits_for_the_broker(skipping: WorkflowEnvironment, workers: Workers) -> None:
    script = Script(publish=unavailable(12))

    async with workers(skipping.client, script):
        handle = await create(skipping)
        await handle.result()
        took = await lasted(handle)

    assert script.attempts("publish") == 13
    assert script.attempts("save_property") == 1
    # 1, 2, 4, ... 32 s, then a minute each.
    assert timedelta(minutes=6) < took < timedelta(minutes=9)


async def test_saving_goes_on_until_the_database_is_back(skipping: WorkflowEnvironment, workers: Workers) -> None:
    script = Script(save_property=unavailable(6))

    async with workers(skipping.client, script):
        await (await create(skipping)).result()

    assert script.attempts("save_property") == 7


async def test_refused_command_completes_with_its_refusal_and_publishes_nothing(
    skipping: WorkflowEnvironment, workers: Workers
) -> None:
    """A refusal is not a failed workflow, which would look like an incident to an operator."""
    script = Script(save_property=refusal("account-closed"))

    async with workers(skipping.client, script):
        outcome = await (await create(skipping)).result()

    assert outcome == "refused (account-closed): refused by the domain"
    assert script.calls == ["save_property"]


@pytest.mark.parametrize(
    ("workflow", "queue"),
    [
        ("create-property", options.COMMANDS),
        ("record-activity", options.COMMANDS),
        ("notify", options.NOTIFICATIONS),
    ],
)
async def test_workflow_that_is_started_with_something_else_fails(
    skipping: WorkflowEnvironment, workers: Workers, workflow: str, queue: str
) -> None:
    async with workers(skipping.client, Script()), asyncio.timeout(20):
        with pytest.raises(WorkflowFailureError) as failed:
            await skipping.client.execute_workflow(workflow, "a flat", id=str(new_id()), task_queue=queue)

    assert isinstance(failed.value.cause, ApplicationError)
    assert failed.value.cause.type == "ValidationError"


def test_worker_that_stops_waits_for_no_local_activity_longer_than_it_may_run() -> None:
    for local in (options.SAVE, options.PUBLISH):
        runs, pauses, retries = (
            local["start_to_close_timeout"],
            local["local_retry_threshold"],
            local["retry_policy"],
        )
        assert runs is not None
        assert pauses is not None
        assert retries is not None
        assert runs <= DRAIN
        assert pauses < retries.initial_interval


_STARTED = (
    "1 saved searches started again, 1 documents checked again, 2 unused files deleted, 1 imports started again, "
    "the places of 1 listings filled"
)
"""What the fakes find besides events and deliveries."""


async def test_reconcile_starts_deliveries_then_publishes_overdue_then_lost_events(
    skipping: WorkflowEnvironment, workers: Workers
) -> None:
    script = Script(publish_overdue=unavailable(1))

    async with workers(skipping.client, script):
        result = await skipping.client.execute_workflow(
            ReconcileWorkflow.run, id=f"reconcile-{datetime.now(UTC).timestamp()}", task_queue=options.MAINTENANCE
        )

    assert result == f"2 overdue events published, 3 overdue deliveries started, {_STARTED}"
    assert script.calls == [
        "start_overdue",
        *["publish_overdue"] * 2,
        "start_overdue_verifications",
        "start_overdue_erasures",
        "start_overdue_exports",
        "delete_expired_exports",
        "start_overdue_saved_searches",
        "start_overdue_images",
        "start_overdue_documents",
        "start_overdue_imports",
        "sweep_files",
        "fill_places",
    ]


async def test_reconcile_reports_the_number_of_unreadable_events(
    skipping: WorkflowEnvironment, workers: Workers
) -> None:
    async with workers(skipping.client, Script(unreadable=4)):
        handle = await skipping.client.start_workflow(
            ReconcileWorkflow.run, id=f"reconcile-{new_id()}", task_queue=options.MAINTENANCE
        )
        result = await handle.result()

    assert result == f"2 overdue events published, 4 unreadable ones skipped, 3 overdue deliveries started, {_STARTED}"


async def test_failed_deliveries_do_not_stop_reconcile(skipping: WorkflowEnvironment, workers: Workers) -> None:
    script = Script(start_overdue=unavailable(3))

    async with workers(skipping.client, script):
        with pytest.raises(WorkflowFailureError):
            await skipping.client.execute_workflow(
                ReconcileWorkflow.run, id=f"reconcile-{new_id()}", task_queue=options.MAINTENANCE
            )

    assert script.calls == ["start_overdue"] * 3 + [
        "publish_overdue",
        "start_overdue_verifications",
        "start_overdue_erasures",
        "start_overdue_exports",
        "delete_expired_exports",
        "start_overdue_saved_searches",
        "start_overdue_images",
        "start_overdue_documents",
        "start_overdue_imports",
        "sweep_files",
        "fill_places",
    ]
