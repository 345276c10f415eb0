"""The plugin's runner: workflow code is still held to what a replay can repeat."""

import time

import pytest
from temporalio import workflow
from temporalio.client import WorkflowFailureError
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from tests.samples import new_id


@workflow.defn
class LooksAtTheClock:
    """What no workflow may do: a replay would see another time."""

    @workflow.run
    async def run(self) -> float:
        return time.time()


async def test_workflow_that_looks_at_the_clock_is_stopped(skipping: WorkflowEnvironment) -> None:
    worker = Worker(
        skipping.client, task_queue="sandbox", workflows=[LooksAtTheClock], workflow_failure_exception_types=[Exception]
    )
    async with worker:
        with pytest.raises(WorkflowFailureError) as failure:
            await skipping.client.execute_workflow(LooksAtTheClock.run, id=f"sandbox-{new_id()}", task_queue="sandbox")

    assert "time.time" in str(failure.value.cause)
