"""Rebuild a projection: replay the event store into a new generation, in steps that can be paused, then switch."""

import asyncio
from collections.abc import Awaitable, Callable

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

from domain.rebuilds import WORKFLOW, RebuildOrder, RebuildProgress, RebuildStatus
from projections.rebuilding import Rebuilding, RebuildState
from workflows import options
from workflows.command import cause_of

Step = Callable[[Rebuilding, RebuildOrder], Awaitable[RebuildProgress]]


@workflow.defn(name=WORKFLOW)
class RebuildProjectionWorkflow:
    """One rebuild. Until the switch it can be paused, resumed and cancelled; the old generation serves meanwhile."""

    @workflow.init
    def __init__(self, order: RebuildOrder) -> None:
        self._paused = False
        self._pauses_when_begun = order.paused
        self._cancelled = False
        self._progress: RebuildProgress | None = None

    @workflow.signal(description="Pauses the step that is running or tried again, until it is resumed")
    def pause(self) -> None:
        self._paused = True

    @workflow.signal(description="Goes on where it was paused")
    def resume(self) -> None:
        self._paused = self._pauses_when_begun = False

    @workflow.signal(description="Deletes the new generation; the old one goes on serving")
    def cancel(self) -> None:
        self._cancelled = True

    @workflow.query(description="How many events are replayed; null before it has begun")
    def progress(self) -> RebuildProgress | None:
        return self._progress

    @workflow.run
    async def run(self, order: RebuildOrder) -> RebuildProgress | None:
        try:
            await self._take(Rebuilding.begin_rebuild, order)
            self._paused = self._paused or self._pauses_when_begun
            while self._progress and not self._progress.ready and not self._cancelled:
                if workflow.info().is_continue_as_new_suggested():
                    workflow.continue_as_new(order.model_copy(update={"paused": self._paused}))
                await self._take(Rebuilding.replay_events, order)
            await self._take(Rebuilding.switch_projection, order)
            await self._take(Rebuilding.delete_old_generation, order)
        except (ActivityError, asyncio.CancelledError) as error:
            if isinstance(error, ActivityError) and not is_cancelled_exception(error):
                await self._abort(order, RebuildStatus.FAILED, cause_of(error).message)
            else:
                # The workflow itself is cancelled, as an operator can in Temporal's web UI.
                await self._abort(order, RebuildStatus.CANCELLED)
            raise
        if self._cancelled:
            # A generation that serves already stays, and the rebuild is complete.
            await self._abort(order, RebuildStatus.CANCELLED)
        return self._progress

    async def _take(self, step: Step, order: RebuildOrder) -> None:
        """Take a step, again after each pause, unless the rebuild is cancelled."""
        await self._wait_while_paused(order)
        while not self._cancelled and not await self._run_step(step, order):
            await self._wait_while_paused(order)

    async def _run_step(self, step: Step, order: RebuildOrder) -> bool:
        """Run a step; False when a pause or a cancellation stopped it. Returns and raises once the step has stopped.

        That also stops a step that fails and is tried again, perhaps for ever. What it has committed stays.
        """
        running = workflow.start_activity_method(step, order, **options.REBUILD)
        try:
            await workflow.wait_condition(lambda: running.done() or self._paused or self._cancelled)
        finally:
            # Also when the workflow itself is cancelled, which does not stop what it does not await.
            if interrupted := not running.done():
                running.cancel()
                await workflow.wait([running])
        try:
            self._show(await running)
        except ActivityError:
            if not interrupted:
                raise
            return False
        return True

    async def _wait_while_paused(self, order: RebuildOrder) -> None:
        if not self._paused or self._cancelled:
            return
        await self._record(order, RebuildStatus.PAUSED)
        await workflow.wait_condition(lambda: not self._paused or self._cancelled)
        if not self._cancelled:
            await self._record(order, RebuildStatus.RUNNING)

    async def _record(self, order: RebuildOrder, status: RebuildStatus) -> None:
        state = RebuildState(order=order, status=status)
        self._show(
            await workflow.execute_activity_method(Rebuilding.record_rebuild_status, state, **options.RECORD_REBUILD)
        )

    async def _abort(self, order: RebuildOrder, status: RebuildStatus, detail: str | None = None) -> None:
        state = RebuildState(order=order, status=status, detail=detail)
        self._show(await workflow.execute_activity_method(Rebuilding.abort_rebuild, state, **options.REBUILD))

    def _show(self, progress: RebuildProgress | None) -> None:
        self._progress = progress
        workflow.set_current_details(str(progress or "Nothing had begun"))
