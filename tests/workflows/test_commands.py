"""Command workflows on skipped time: what is retried, for how long, and what comes of it."""

from datetime import UTC, datetime, timedelta

import pytest
from temporalio.client import WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment

from tests.samples import create_property, new_id, register_user
from tests.workflows.conftest import Workers
from tests.workflows.fakes import Script, away, refusal
from workflows import options
from workflows.create_property import CreatePropertyWorkflow
from workflows.reconcile import ReconcileWorkflow
from workflows.register_user import RegisterUserWorkflow


async def create(environment: WorkflowEnvironment) -> WorkflowHandle[CreatePropertyWorkflow, str]:
    command = create_property("hyderabad", new_id())
    return await environment.client.start_workflow(
        CreatePropertyWorkflow.run, command, id=f"create-property/{command.command_id}", task_queue=options.COMMANDS
    )


async def lasted(handle: WorkflowHandle[CreatePropertyWorkflow, str]) -> timedelta:
    description = await handle.describe()
    assert description.close_time is not None
    return description.close_time - description.start_time


async def test_property_is_saved_then_published_then_confirmed(skipping: WorkflowEnvironment, workers: Workers) -> None:
    script = Script()

    async with workers(skipping.client, script):
        told = await (await create(skipping)).result()

    assert script.calls == ["save_property", "publish", "confirm_property_created"]
    assert told.endswith("saved, published, owner mailed")


async def test_confirmation_that_fails_for_hours_is_sent_at_last(
    skipping: WorkflowEnvironment, workers: Workers
) -> None:
    script = Script(confirm_property_created=away(14))

    async with workers(skipping.client, script):
        handle = await create(skipping)
        told = await handle.result()
        took = await lasted(handle)

    assert told.endswith("owner mailed")
    assert script.attempts("confirm_property_created") == 15
    # 5 s doubled up to half an hour: 5, 10, ... 1280, then 1800 five times.
    assert timedelta(hours=3) < took < timedelta(hours=4)


async def test_confirmation_that_never_succeeds_is_given_up_after_days(
    skipping: WorkflowEnvironment, workers: Workers
) -> None:
    script = Script(confirm_property_created=away(1000))

    async with workers(skipping.client, script):
        handle = await create(skipping)
        told = await handle.result()
        took = await lasted(handle)

    assert "not told" in told
    assert timedelta(days=3) < took < timedelta(days=5)


async def test_recipient_refused_for_good_is_not_tried_again(skipping: WorkflowEnvironment, workers: Workers) -> None:
    script = Script(confirm_property_created=refusal("MailRefused"))

    async with workers(skipping.client, script):
        told = await (await create(skipping)).result()

    assert script.attempts("confirm_property_created") == 1
    assert told.endswith("owner not told: refused by the domain")


async def test_publishing_waits_for_the_broker_and_the_confirmation_for_it(
    skipping: WorkflowEnvironment, workers: Workers
) -> None:
    script = Script(publish=away(12))

    async with workers(skipping.client, script):
        handle = await create(skipping)
        await handle.result()
        took = await lasted(handle)

    assert script.attempts("publish") == 13
    assert script.attempts("save_property") == 1
    assert script.calls[-1] == "confirm_property_created"
    # 1, 2, 4, ... 32 s, then a minute each.
    assert timedelta(minutes=6) < took < timedelta(minutes=9)


async def test_saving_goes_on_until_the_database_is_back(skipping: WorkflowEnvironment, workers: Workers) -> None:
    script = Script(save_property=away(6))

    async with workers(skipping.client, script):
        await (await create(skipping)).result()

    assert script.attempts("save_property") == 7


async def test_refused_command_fails_with_the_refusal_and_does_nothing_else(
    skipping: WorkflowEnvironment, workers: Workers
) -> None:
    script = Script(save_property=refusal("OwnerUnknown"))

    async with workers(skipping.client, script):
        with pytest.raises(WorkflowFailureError) as failure:
            await (await create(skipping)).result()

    assert isinstance(failure.value.cause, ApplicationError)
    assert failure.value.cause.type == "OwnerUnknown"
    assert script.calls == ["save_property"]


async def test_user_is_saved_then_published(skipping: WorkflowEnvironment, workers: Workers) -> None:
    script, command = Script(publish=away(3)), register_user("hyderabad")

    async with workers(skipping.client, script):
        told = await skipping.client.execute_workflow(
            RegisterUserWorkflow.run, command, id=f"register-user/{command.command_id}", task_queue=options.COMMANDS
        )

    assert told.endswith("saved, published")
    assert script.calls == ["save_user"] + ["publish"] * 4


async def test_reconciling_publishes_then_sends_again(skipping: WorkflowEnvironment, workers: Workers) -> None:
    script = Script(publish_overdue=away(1))

    async with workers(skipping.client, script):
        told = await skipping.client.execute_workflow(
            ReconcileWorkflow.run, id=f"reconcile-{datetime.now(UTC).timestamp()}", task_queue=options.MAINTENANCE
        )

    assert told == "2 overdue events published, 1 lost ones published again"
    assert script.calls == ["publish_overdue", "publish_overdue", "republish_unprojected"]
