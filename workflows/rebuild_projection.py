"""Rebuild a projection: replay the event store into a new generation, in steps that can be paused, then switch."""

from temporalio import workflow
from temporalio.exceptions import ActivityError

from domain.rebuilds import WORKFLOW, RebuildOrder, RebuildProgress, RebuildStatus
from projections.rebuilding import Rebuilding, RebuildState
from workflows import options
from workflows.command import cause_of


@workflow.defn(name=WORKFLOW)
class RebuildProjectionWorkflow:
    """One rebuild. Until the switch it can be paused, resumed and cancelled; the old generation serves meanwhile."""

    @workflow.init
    def __init__(self, order: RebuildOrder) -> None:
        self._paused = order.paused
        self._cancelled = False
        self._progress: RebuildProgress | None = None

    @workflow.signal(description="Pauses after the step that is running, until it is resumed")
    def pause(self) -> None:
        self._paused = True

    @workflow.signal(description="Goes on where it was paused")
    def resume(self) -> None:
        self._paused = False

    @workflow.signal(description="Deletes the new generation; the old one goes on serving")
    def cancel(self) -> None:
        self._cancelled = True

    @workflow.query(description="How many events are replayed; null before it has begun")
    def progress(self) -> RebuildProgress | None:
        return self._progress

    @workflow.run
    async def run(self, order: RebuildOrder) -> RebuildProgress | None:
        try:
            self._show(await workflow.execute_activity_method(Rebuilding.begin_rebuild, order, **options.REBUILD))
            while self._progress and not self._progress.ready:
                await self._wait_while_paused(order)
                if self._cancelled:
                    return await self._abort(order, RebuildStatus.CANCELLED)
                if workflow.info().is_continue_as_new_suggested():
                    workflow.continue_as_new(order.model_copy(update={"paused": self._paused}))
                self._show(await workflow.execute_activity_method(Rebuilding.replay_events, order, **options.REBUILD))
            await self._wait_while_paused(order)
            if self._cancelled:
                return await self._abort(order, RebuildStatus.CANCELLED)
            self._show(await workflow.execute_activity_method(Rebuilding.switch_projection, order, **options.REBUILD))
        except ActivityError as error:
            await self._abort(order, RebuildStatus.FAILED, cause_of(error).message)
            raise
        done = await workflow.execute_activity_method(Rebuilding.delete_old_generation, order, **options.REBUILD)
        self._show(done)
        return done

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

    async def _abort(
        self, order: RebuildOrder, status: RebuildStatus, detail: str | None = None
    ) -> RebuildProgress | None:
        state = RebuildState(order=order, status=status, detail=detail)
        self._show(await workflow.execute_activity_method(Rebuilding.abort_rebuild, state, **options.REBUILD))
        return self._progress

    def _show(self, progress: RebuildProgress | None) -> None:
        self._progress = progress
        workflow.set_current_details(str(progress or "Nothing had begun"))
