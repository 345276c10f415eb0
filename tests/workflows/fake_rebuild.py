"""Fake activities of a rebuild: it has 3,000 events, of which each step replays 1,000."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from temporalio import activity

from domain.rebuilds import RebuildOrder, RebuildProgress, RebuildStatus
from projections.rebuilding import RebuildState

_TOTAL, _STEP = 3000, 1000


class FakeRebuild:
    """The record of one rebuild; `call` is told of each call, and may raise."""

    def __init__(self, call: Callable[[str], None]) -> None:
        self._call = call
        self._progress: RebuildProgress | None = None

    def _set(self, **change: object) -> RebuildProgress:
        assert self._progress
        self._progress = self._progress.model_copy(update=change)
        return self._progress

    @property
    def activities(self) -> list[Callable[..., Any]]:
        fake = self

        @activity.defn
        async def begin_rebuild(order: RebuildOrder) -> RebuildProgress:
            fake._call("begin_rebuild")
            fake._progress = fake._progress or _begun(order.rebuild_id, order.projection)
            return fake._progress

        @activity.defn
        async def replay_events(order: RebuildOrder) -> RebuildProgress:
            fake._call("replay_events")
            assert fake._progress
            done = fake._progress.done + _STEP
            return fake._set(done=done, applied=done, working_seconds=done / 10_000, ready=done >= _TOTAL)

        @activity.defn
        async def switch_projection(order: RebuildOrder) -> RebuildProgress:
            fake._call("switch_projection")
            return fake._set()

        @activity.defn
        async def delete_old_generation(order: RebuildOrder) -> RebuildProgress:
            fake._call("delete_old_generation")
            return fake._set(status=RebuildStatus.COMPLETED, finished_at=datetime.now(UTC))

        @activity.defn
        async def abort_rebuild(state: RebuildState) -> RebuildProgress | None:
            fake._call("abort_rebuild")
            ended = {"status": state.status, "detail": state.detail, "finished_at": datetime.now(UTC)}
            return fake._set(**ended) if fake._progress else None

        @activity.defn
        async def record_rebuild_status(state: RebuildState) -> RebuildProgress | None:
            fake._call("record_rebuild_status")
            return fake._set(status=state.status) if fake._progress else None

        return [
            begin_rebuild,
            replay_events,
            switch_projection,
            delete_old_generation,
            abort_rebuild,
            record_rebuild_status,
        ]


def _begun(rebuild_id: UUID, projection: str) -> RebuildProgress:
    return RebuildProgress(
        rebuild_id=rebuild_id,
        projection=projection,
        generation=2,
        status=RebuildStatus.RUNNING,
        detail=None,
        requested_by=None,
        total=_TOTAL,
        done=0,
        applied=0,
        parked=0,
        working_seconds=0.0,
        ready=False,
        started_at=datetime.now(UTC),
        updated_at=datetime.now(UTC),
        finished_at=None,
    )
