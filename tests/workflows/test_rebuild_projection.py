"""The workflow of a rebuild with time skipping: its steps, a pause, a cancellation, and what ends it."""

from typing import Any

import pytest
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment

from domain.rebuilds import RebuildOrder, RebuildProgress, RebuildStatus
from projections.rebuilding import Rebuilding
from tests.platform import until
from tests.samples import new_id
from tests.workflows.conftest import Workers
from tests.workflows.fakes import Script, unavailable
from workflows import options
from workflows.rebuild_projection import RebuildProjectionWorkflow
from workflows.registry import WORKFLOWS

Rebuilding_ = WorkflowHandle[Any, RebuildProgress | None]
STEPS = ["begin_rebuild", *["replay_events"] * 3, "switch_projection", "delete_old_generation"]


async def started(client: Client, *, paused: bool = False) -> Rebuilding_:
    order = RebuildOrder(rebuild_id=new_id(), projection="history", paused=paused)
    return await client.start_workflow(
        RebuildProjectionWorkflow.run, order, id=f"rebuild-projection/{new_id()}", task_queue=options.MAINTENANCE
    )


async def is_paused(handle: Rebuilding_) -> bool:
    progress = await handle.query(RebuildProjectionWorkflow.progress)
    return progress is not None and progress.status is RebuildStatus.PAUSED


async def test_rebuild_replays_until_it_is_ready_then_switches(skipping: WorkflowEnvironment, workers: Workers) -> None:
    script = Script()
    async with workers(skipping.client, script):
        handle = await started(skipping.client)
        done = await handle.result()
        progress = await handle.query(RebuildProjectionWorkflow.progress)

    assert script.calls == STEPS
    assert done == progress
    assert done
    assert (done.status, done.done, done.total) == (RebuildStatus.COMPLETED, 3000, 3000)
    assert str(done) == "Completed: 3,000 of 3,000 events, 10,000 a second"


async def test_paused_rebuild_waits_and_goes_on_when_it_is_resumed(
    skipping: WorkflowEnvironment, workers: Workers
) -> None:
    script = Script()
    async with workers(skipping.client, script):
        handle = await started(skipping.client, paused=True)
        await until(lambda: is_paused(handle))
        calls = list(script.calls)
        await handle.signal(RebuildProjectionWorkflow.resume)
        done = await handle.result()

    assert calls == ["begin_rebuild", "record_rebuild_status"]
    assert done
    assert done.status is RebuildStatus.COMPLETED
    assert [call for call in script.calls if call != "record_rebuild_status"] == STEPS
    assert script.attempts("record_rebuild_status") == 2


async def test_cancelled_rebuild_never_switches(skipping: WorkflowEnvironment, workers: Workers) -> None:
    script = Script()
    async with workers(skipping.client, script):
        handle = await started(skipping.client, paused=True)
        await until(lambda: is_paused(handle))
        await handle.signal(RebuildProjectionWorkflow.cancel)
        done = await handle.result()

    assert done
    assert done.status is RebuildStatus.CANCELLED
    assert script.calls[-1] == "abort_rebuild"
    assert "switch_projection" not in script.calls
    assert (await handle.describe()).status is WorkflowExecutionStatus.COMPLETED


def for_ever() -> list[Exception]:
    """More failures than a test waits for."""
    return unavailable(10_000)


async def started_until_it_fails(client: Client, script: Script, step: str) -> Rebuilding_:
    """A rebuild, some step of which has failed more than once."""
    handle = await started(client)

    async def has_failed() -> bool:
        return script.attempts(step) > 1

    await until(has_failed)
    return handle


@pytest.mark.parametrize("step", dict.fromkeys(STEPS))
async def test_step_that_fails_for_ever_is_cancelled(
    skipping: WorkflowEnvironment, workers: Workers, step: str
) -> None:
    failing: Any = {step: for_ever()}
    script = Script(**failing)
    async with workers(skipping.client, script):
        handle = await started_until_it_fails(skipping.client, script, step)
        await handle.signal(RebuildProjectionWorkflow.cancel)
        done = await handle.result()

    assert script.calls[-1] == "abort_rebuild"
    assert done is None if step == "begin_rebuild" else done and done.status is RebuildStatus.CANCELLED


@pytest.mark.parametrize("step", dict.fromkeys(STEPS))
async def test_step_that_fails_for_ever_is_paused_and_taken_again_when_it_is_resumed(
    skipping: WorkflowEnvironment, workers: Workers, step: str
) -> None:
    failures = for_ever()
    failing: Any = {step: failures}
    script = Script(**failing)
    async with workers(skipping.client, script):
        handle = await started_until_it_fails(skipping.client, script, step)
        await handle.signal(RebuildProjectionWorkflow.pause)

        async def is_recorded() -> bool:
            return script.attempts("record_rebuild_status") > 0

        await until(is_recorded)
        failures.clear()
        await handle.signal(RebuildProjectionWorkflow.resume)
        done = await handle.result()

    assert done
    assert done.status is RebuildStatus.COMPLETED
    assert script.calls[-1] == "delete_old_generation"


async def test_rebuild_whose_workflow_is_cancelled_is_aborted_when_its_step_has_stopped(
    skipping: WorkflowEnvironment, workers: Workers
) -> None:
    script = Script(switch_projection=for_ever())
    async with workers(skipping.client, script):
        handle = await started_until_it_fails(skipping.client, script, "switch_projection")
        await handle.cancel()
        with pytest.raises(WorkflowFailureError):
            await handle.result()
        events = [event async for event in handle.fetch_history_events()]
        progress = await handle.query(RebuildProjectionWorkflow.progress)

    stopped = [n for n, event in enumerate(events) if event.HasField("activity_task_canceled_event_attributes")]
    aborts = [
        n
        for n, event in enumerate(events)
        if event.activity_task_scheduled_event_attributes.activity_type.name == "abort_rebuild"
    ]
    assert len(stopped) == len(aborts) == 1
    assert stopped < aborts
    assert progress
    assert progress.status is RebuildStatus.CANCELLED


async def test_paused_rebuild_whose_workflow_is_cancelled_is_aborted(
    skipping: WorkflowEnvironment, workers: Workers
) -> None:
    script = Script()
    async with workers(skipping.client, script):
        handle = await started(skipping.client, paused=True)
        await until(lambda: is_paused(handle))
        await handle.cancel()
        with pytest.raises(WorkflowFailureError):
            await handle.result()
        progress = await handle.query(RebuildProjectionWorkflow.progress)

    assert script.calls[-1] == "abort_rebuild"
    assert progress
    assert progress.status is RebuildStatus.CANCELLED


async def test_every_step_is_tried_until_it_is_done(skipping: WorkflowEnvironment, workers: Workers) -> None:
    late: Any = {name: unavailable(3) for name in STEPS}
    script = Script(**late)
    async with workers(skipping.client, script):
        done = await (await started(skipping.client)).result()

    assert done
    assert done.status is RebuildStatus.COMPLETED
    assert [script.attempts(name) for name in dict.fromkeys(STEPS)] == [4, 3 + 3, 4, 4]


@pytest.mark.parametrize("step", ["replay_events", "switch_projection"])
async def test_rebuild_that_cannot_go_on_leaves_the_old_generation_and_says_why(
    skipping: WorkflowEnvironment, workers: Workers, step: str
) -> None:
    failing: Any = {step: [ApplicationError("most events fail", type="TooManyFailures", non_retryable=True)]}
    script = Script(**failing)
    async with workers(skipping.client, script):
        handle = await started(skipping.client)
        with pytest.raises(WorkflowFailureError):
            await handle.result()
        progress = await handle.query(RebuildProjectionWorkflow.progress)

    assert script.calls[-1] == "abort_rebuild"
    assert progress
    assert (progress.status, progress.detail) == (RebuildStatus.FAILED, "most events fail")


def test_activities_have_the_names_of_the_fakes() -> None:
    """The real ones are registered by worker.py, which has the worker of the queue."""
    named = {name for name in vars(Rebuilding) if not name.startswith("_")}

    assert named <= {fake.__name__ for fake in Script().activities}
    assert RebuildProjectionWorkflow in WORKFLOWS[options.MAINTENANCE]
