"""The empty workflow: answers its update at once and ends, which is the least that an early return can cost."""

from temporalio import workflow

QUEUE = "bench"


@workflow.defn(name="empty")
class EmptyWorkflow:
    """Nothing, durably."""

    @workflow.update
    async def saved(self) -> str:
        return "saved"

    @workflow.run
    async def run(self, command: str) -> str:
        await workflow.wait_condition(workflow.all_handlers_finished)
        return command
