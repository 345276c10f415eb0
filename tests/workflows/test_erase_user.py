"""The workflow that erases a user, on scripted activities."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from temporalio.client import Client, WorkflowHandle
from temporalio.testing import WorkflowEnvironment

from domain.user_commands import EraseUser
from tests.samples import new_id, register_user, sent
from tests.workflows.conftest import Workers, time_skipping
from tests.workflows.fakes import Script, refusal, unavailable
from workflows import options
from workflows.erase_user import EraseUserWorkflow

STEPS = [
    "withdraw_listings",
    "ensure_notified",
    "delete_listings",
    "delete_executions",
    "delete_cached",
    "delete_rows",
    "destroy_key",
    "delete_sessions",
]


@pytest.fixture
async def skipping() -> AsyncIterator[WorkflowEnvironment]:
    """A server of its own for each test, because some skip hours."""
    async with time_skipping() as environment:
        yield environment


async def erasing(client: Client) -> WorkflowHandle[EraseUserWorkflow, str]:
    person = register_user("hyderabad")
    command = EraseUser(
        command_id=new_id(), tenant_id=person.tenant_id, user_id=person.user_id, issued_at=person.issued_at
    )
    return await client.start_workflow(
        EraseUserWorkflow.run, sent(command), id=f"erase-user/{command.command_id}", task_queue=options.COMMANDS
    )


async def took(handle: WorkflowHandle[EraseUserWorkflow, str]) -> timedelta:
    description = await handle.describe()
    assert description.close_time is not None
    return description.close_time - description.start_time


async def test_user_is_saved_then_published_then_erased_with_the_key_last(
    skipping: WorkflowEnvironment, workers: Workers
) -> None:
    script = Script()

    async with workers(skipping.client, script):
        assert (await (await erasing(skipping.client)).result()).endswith("USER_DELETED")

    assert script.calls == ["save_user", "publish", *STEPS]


@pytest.mark.parametrize("step", STEPS)
async def test_step_that_fails_is_repeated_and_the_ones_before_it_are_not(
    skipping: WorkflowEnvironment, workers: Workers, step: str
) -> None:
    """As when the worker is killed in the step, or what it needs is unavailable."""
    failing: dict[str, Any] = {step: unavailable(8)}
    script = Script(**failing)

    async with workers(skipping.client, script):
        await (await erasing(skipping.client)).result()

    n = STEPS.index(step)
    assert script.calls == ["save_user", "publish", *STEPS[:n], *[step] * 9, *STEPS[n + 1 :]]


async def test_address_is_kept_for_the_last_mail_at_most_an_hour(
    skipping: WorkflowEnvironment, workers: Workers
) -> None:
    script = Script(ensure_notified=unavailable(1000))

    async with workers(skipping.client, script):
        handle = await erasing(skipping.client)
        await handle.result()
        took_in_all = await took(handle)

    assert timedelta(minutes=58) < took_in_all < timedelta(minutes=62)
    assert script.calls[-len(STEPS[2:]) :] == STEPS[2:]
    assert script.attempts("ensure_notified") > 50


async def test_sessions_are_deleted_when_no_access_token_names_them_any_more(
    skipping: WorkflowEnvironment, workers: Workers
) -> None:
    script = Script(sessions_kept=[900.0, 60.0])

    async with workers(skipping.client, script):
        handle = await erasing(skipping.client)
        await handle.result()
        took_in_all = await took(handle)

    assert script.calls[-4:] == ["destroy_key", *["delete_sessions"] * 3]
    assert took_in_all > timedelta(seconds=960)


async def test_refused_erasure_deletes_nothing(skipping: WorkflowEnvironment, workers: Workers) -> None:
    script = Script(save_user=refusal("not-found"))

    async with workers(skipping.client, script):
        assert (await (await erasing(skipping.client)).result()).startswith("refused (not-found)")

    assert script.calls == ["save_user"]
