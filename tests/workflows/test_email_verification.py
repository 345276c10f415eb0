"""The workflow that reminds somebody who has registered to verify the e-mail address, with time skipping."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from temporalio.client import WorkflowHandle
from temporalio.testing import WorkflowEnvironment

from activities.verifications import Unverified
from tests.samples import new_id, register_user, sent
from tests.workflows.conftest import Workers, time_skipping
from tests.workflows.fakes import Script, refusal, unavailable
from workflows import options
from workflows.email_verification import EmailVerificationWorkflow
from workflows.register_user import RegisterUserWorkflow


@pytest.fixture
async def skipping() -> AsyncIterator[WorkflowEnvironment]:
    """A server of its own for each test: one that has had a child workflow no longer skips time for other workflows."""
    async with time_skipping() as environment:
        yield environment


Reminding = WorkflowHandle[EmailVerificationWorkflow, str]


async def reminding(environment: WorkflowEnvironment, ago: timedelta = timedelta()) -> Reminding:
    account = Unverified(tenant_id="hyderabad", user_id=new_id(), registered_at=await now(environment) - ago)
    return await environment.client.start_workflow(
        EmailVerificationWorkflow.run, account, id=account.workflow_id, task_queue=options.COMMANDS
    )


async def now(environment: WorkflowEnvironment) -> datetime:
    return (await environment.get_current_time()).astimezone(UTC)


async def lasted(handle: Reminding) -> timedelta:
    description = await handle.describe()
    assert description.close_time is not None
    return description.close_time - description.start_time


async def test_address_that_is_never_verified_has_two_reminders_and_expires(
    skipping: WorkflowEnvironment, workers: Workers
) -> None:
    script = Script()

    async with workers(skipping.client, script):
        handle = await reminding(skipping)
        assert await handle.result() == "expired"
        took = await lasted(handle)

    assert script.calls == ["save_verification_step", "publish"] * 3
    # The clocks of server and workflow differ by milliseconds.
    assert abs(took - timedelta(days=7)) < timedelta(minutes=1)


async def test_address_verified_after_two_days_has_one_reminder(
    skipping: WorkflowEnvironment, workers: Workers
) -> None:
    script = Script()

    async with workers(skipping.client, script):
        handle = await reminding(skipping)
        await skipping.sleep(timedelta(days=2))
        await handle.signal(EmailVerificationWorkflow.verified)
        assert await handle.result() == "verified"

    assert script.calls == ["save_verification_step", "publish"]


async def test_reminder_waits_for_the_database(skipping: WorkflowEnvironment, workers: Workers) -> None:
    script = Script(save_verification_step=unavailable(8))

    async with workers(skipping.client, script):
        assert await (await reminding(skipping)).result() == "expired"

    assert script.attempts("save_verification_step") == 8 + 3


@pytest.mark.parametrize(("days", "steps", "left"), [(4, 2, 3), (30, 1, 0)])
async def test_workflow_that_is_started_late_takes_the_newest_overdue_step_and_the_later_ones(
    skipping: WorkflowEnvironment, workers: Workers, days: int, steps: int, left: int
) -> None:
    script = Script()

    async with workers(skipping.client, script):
        handle = await reminding(skipping, ago=timedelta(days=days))
        assert await handle.result() == "expired"
        took = await lasted(handle)

    assert script.attempts("save_verification_step") == steps
    assert abs(took - timedelta(days=left)) < timedelta(minutes=1)


async def test_steps_without_events_publish_nothing(skipping: WorkflowEnvironment, workers: Workers) -> None:
    script = Script(changes=False)

    async with workers(skipping.client, script):
        assert (await (await reminding(skipping)).result()).startswith("nothing to do")

    assert "publish" not in script.calls


async def test_reminders_of_an_erased_account_end(skipping: WorkflowEnvironment, workers: Workers) -> None:
    script = Script(save_verification_step=refusal("not-found"))

    async with workers(skipping.client, script):
        assert await (await reminding(skipping)).result() == "the account is erased"


async def test_user_is_saved_then_published_then_reminded(skipping: WorkflowEnvironment, workers: Workers) -> None:
    script, command = Script(publish=unavailable(3)), register_user("hyderabad")

    async with workers(skipping.client, script):
        result = await skipping.client.execute_workflow(
            RegisterUserWorkflow.run,
            sent(command),
            id=f"register-user/{command.command_id}",
            task_queue=options.COMMANDS,
        )
        reminders = skipping.client.get_workflow_handle(f"email-verification/hyderabad/{command.aggregate_id}")
        assert (await reminders.describe()).workflow_type == "email-verification"

    assert result.endswith("version 1: USER_REGISTERED")
    # Reminders may follow: the server may skip the days until they are due.
    assert script.calls[:5] == ["save_user", *["publish"] * 4]
