"""Baselines of a command: an empty workflow, and one with empty local activities in place of a command's steps.

The first answers its update at once and ends: the minimum cost of update-with-start. The second adds the cost of the
local activities themselves.
"""

from datetime import timedelta

from temporalio import activity, workflow

QUEUE = "bench"
_AT_MOST = timedelta(seconds=10)


@activity.defn(name="nothing")
async def nothing(value: str) -> str:
    return value


@workflow.defn(name="empty")
class EmptyWorkflow:
    """Answers its update at once and completes."""

    @workflow.update
    async def saved(self) -> str:
        return "saved"

    @workflow.run
    async def run(self, command: str) -> str:
        await workflow.wait_condition(workflow.all_handlers_finished)
        return command


@workflow.defn(name="empty-steps")
class EmptyStepsWorkflow:
    """Two local activities that do nothing; the update is answered after the first."""

    @workflow.init
    def __init__(self, command: str) -> None:
        self._saved = ""

    @workflow.update
    async def saved(self) -> str:
        await workflow.wait_condition(lambda: bool(self._saved))
        return self._saved

    @workflow.run
    async def run(self, command: str) -> str:
        self._saved = await workflow.execute_local_activity(nothing, command, start_to_close_timeout=_AT_MOST)
        await workflow.execute_local_activity(nothing, command, start_to_close_timeout=_AT_MOST)
        await workflow.execute_local_activity(nothing, command, start_to_close_timeout=_AT_MOST)
        await workflow.wait_condition(workflow.all_handlers_finished)
        return command
