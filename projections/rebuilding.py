"""The activities of the workflow `rebuild-projection`: each a step of `projections/rebuild.py`."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from temporalio import activity
from temporalio.exceptions import ApplicationError

from adapters.postgres import Database
from domain.model import Fact
from domain.rebuilds import RebuildOrder, RebuildProgress, RebuildStatus
from projections.projection import Projection
from projections.rebuild import RebuildEnded, RebuildSteps, rebuild_steps
from projections.rebuild_record import find_rebuild, set_status
from projections.sink import TooManyFailures

_SECONDS = 3.0
"""How long one activity replays: a pause or a cancellation waits for its end, and each one adds to the history."""
_HEARTBEAT_SECONDS = 3.0
"""A fifth of the heartbeat timeout."""


class RebuildState(Fact):
    """What is to be recorded of a rebuild."""

    order: RebuildOrder
    status: RebuildStatus
    detail: str | None = None


class Rebuilding:
    """Rebuilds projections in steps. Each raises RebuildRunning, and is tried again, while another process has one."""

    def __init__(
        self,
        database: Database,
        projections: Mapping[str, Projection[Any]],
        seconds: float = _SECONDS,
        heartbeat_seconds: float = _HEARTBEAT_SECONDS,
    ) -> None:
        self._database = database
        self._projections = projections
        self._seconds = seconds
        self._heartbeat_seconds = heartbeat_seconds

    @activity.defn
    async def begin_rebuild(self, order: RebuildOrder) -> RebuildProgress:
        """Delete what earlier rebuilds have left, and claim a generation."""
        async with self._steps(order) as steps:
            return await steps.begin()

    @activity.defn
    async def replay_events(self, order: RebuildOrder) -> RebuildProgress:
        """Replay events into the new generation for some seconds.

        An attempt after a lost worker goes on where that had come to.
        """
        async with self._steps(order) as steps:
            return await steps.replay(self._seconds)

    @activity.defn
    async def switch_projection(self, order: RebuildOrder) -> RebuildProgress:
        """Make the new generation the serving one."""
        async with self._steps(order) as steps:
            return await steps.switch()

    @activity.defn
    async def delete_old_generation(self, order: RebuildOrder) -> RebuildProgress:
        """Delete the rows of the generation that served before."""
        async with self._steps(order) as steps:
            return await steps.finish()

    @activity.defn
    async def abort_rebuild(self, state: RebuildState) -> RebuildProgress | None:
        """Delete the new generation, unless it serves; None if nothing had begun."""
        async with self._steps(state.order) as steps:
            return await steps.abort(state.status, state.detail)

    @activity.defn
    async def record_rebuild_status(self, state: RebuildState) -> RebuildProgress | None:
        """Record that a rebuild is paused or goes on."""
        async with self._database.statements() as connection:
            await set_status(connection, state.order.rebuild_id, state.status, state.detail)
            return await find_rebuild(connection, state.order.rebuild_id)

    @asynccontextmanager
    async def _steps(self, order: RebuildOrder) -> AsyncIterator[RebuildSteps[Any]]:
        """The steps of a rebuild, with heartbeats meanwhile. What no other attempt can do fails for good."""
        async with (
            _heartbeats(self._heartbeat_seconds),
            rebuild_steps(self._database, self._projection(order), order) as steps,
        ):
            try:
                yield steps
            except (RebuildEnded, TooManyFailures) as error:
                raise ApplicationError(str(error), type=type(error).__name__, non_retryable=True) from error

    def _projection(self, order: RebuildOrder) -> Projection[Any]:
        try:
            return self._projections[order.projection]
        except KeyError as error:
            message = f"there is no projection {order.projection}; there are {', '.join(self._projections)}"
            raise ApplicationError(message, type="UnknownProjection", non_retryable=True) from error


@asynccontextmanager
async def _heartbeats(seconds: float) -> AsyncIterator[None]:
    """Heartbeats every so many seconds: one call of a step may take longer than the heartbeat timeout."""

    async def send() -> None:
        while True:
            activity.heartbeat()
            await asyncio.sleep(seconds)

    sending = asyncio.create_task(send())
    try:
        yield
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
