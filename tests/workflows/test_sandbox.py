"""The plugin's sandbox: workflow code that is not deterministic fails."""

import time

import pytest
from temporalio import workflow
from temporalio.client import WorkflowFailureError
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from tests.samples import new_id


@workflow.defn
class ReadsTheClock:
    """Not deterministic: a replay would get another time."""

    @workflow.run
    async def run(self) -> float:
        return time.time()


async def test_workflow_that_reads_the_clock_fails(skipping: WorkflowEnvironment) -> None:
    worker = Worker(
        skipping.client, task_queue="sandbox", workflows=[ReadsTheClock], workflow_failure_exception_types=[Exception]
    )
    async with worker:
        with pytest.raises(WorkflowFailureError) as failure:
            await skipping.client.execute_workflow(ReadsTheClock.run, id=f"sandbox-{new_id()}", task_queue="sandbox")

    assert "time.time" in str(failure.value.cause)
