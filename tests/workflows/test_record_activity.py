"""The workflow `record-activity` with time skipping: retries, and its result."""

from datetime import timedelta

from temporalio.client import WorkflowHandle
from temporalio.testing import WorkflowEnvironment

from tests.samples import login, new_id, record_activity, view
from tests.workflows.conftest import Workers
from tests.workflows.fakes import Script, unavailable
from workflows import options
from workflows.record_activity import RecordActivityWorkflow


async def record(environment: WorkflowEnvironment) -> WorkflowHandle[RecordActivityWorkflow, str]:
    batch = record_activity("hyderabad", view(new_id()), view(new_id()), login(new_id()))
    return await environment.client.start_workflow(
        RecordActivityWorkflow.run, batch, id=f"record-activity/{batch.command_id}", task_queue=options.COMMANDS
    )


async def test_observations_are_saved_then_published(skipping: WorkflowEnvironment, workers: Workers) -> None:
    script = Script()

    async with workers(skipping.client, script):
        outcome = await (await record(skipping)).result()

    assert script.calls == ["save_observations", "publish_observations"]
    assert outcome == "3 observations: 2 PROPERTY_VIEWED, 1 USER_LOGGED_IN"


async def test_saving_observations_goes_on_until_the_database_is_back(
    skipping: WorkflowEnvironment, workers: Workers
) -> None:
    script = Script(save_observations=unavailable(6))

    async with workers(skipping.client, script):
        await (await record(skipping)).result()

    assert script.calls == ["save_observations"] * 7 + ["publish_observations"]


async def test_publishing_observations_waits_for_the_broker(skipping: WorkflowEnvironment, workers: Workers) -> None:
    script = Script(publish_observations=unavailable(12))

    async with workers(skipping.client, script):
        handle = await record(skipping)
        await handle.result()
        description = await handle.describe()

    assert script.attempts("publish_observations") == 13
    assert script.attempts("save_observations") == 1
    assert description.close_time is not None
    # 1, 2, 4, ... 32 s, then a minute each.
    assert timedelta(minutes=6) < description.close_time - description.start_time < timedelta(minutes=9)
