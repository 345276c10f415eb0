"""The activities of the workflow `rebuild-projection`: each a step of `projections/rebuild.py`."""

from collections.abc import Mapping
from typing import Any

from temporalio import activity
from temporalio.exceptions import ApplicationError

from adapters.postgres import Database
from domain.model import Fact
from domain.rebuilds import RebuildOrder, RebuildProgress, RebuildStatus
from projections.projection import Projection
from projections.rebuild import RebuildEnded, rebuild_steps
from projections.rebuild_record import find_rebuild, set_status
from projections.sink import TooManyFailures

_SECONDS = 3.0
"""How long one activity replays: a pause or a cancellation waits for its end, and each one adds to the history."""


class RebuildState(Fact):
    """What is to be recorded of a rebuild."""

    order: RebuildOrder
    status: RebuildStatus
    detail: str | None = None


class Rebuilding:
    """Rebuilds projections in steps. Each raises RebuildRunning, and is tried again, while another process has one."""

    def __init__(
        self, database: Database, projections: Mapping[str, Projection[Any]], seconds: float = _SECONDS
    ) -> None:
        self._database = database
        self._projections = projections
        self._seconds = seconds

    @activity.defn
    async def begin_rebuild(self, order: RebuildOrder) -> RebuildProgress:
        """Delete what earlier rebuilds have left, and claim a generation."""
        async with rebuild_steps(self._database, self._projection(order), order) as steps:
            return await steps.begin(activity.heartbeat)

    @activity.defn
    async def replay_events(self, order: RebuildOrder) -> RebuildProgress:
        """Replay events into the new generation for some seconds.

        An attempt after a lost worker goes on where that had come to.
        """
        async with rebuild_steps(self._database, self._projection(order), order) as steps:
            try:
                return await steps.replay(self._seconds, activity.heartbeat)
            except (RebuildEnded, TooManyFailures) as error:
                raise _final(error) from error

    @activity.defn
    async def switch_projection(self, order: RebuildOrder) -> RebuildProgress:
        """Make the new generation the serving one."""
        async with rebuild_steps(self._database, self._projection(order), order) as steps:
            try:
                return await steps.switch(activity.heartbeat)
            except (RebuildEnded, TooManyFailures) as error:
                raise _final(error) from error

    @activity.defn
    async def delete_old_generation(self, order: RebuildOrder) -> RebuildProgress:
        """Delete the rows of the generation that served before."""
        async with rebuild_steps(self._database, self._projection(order), order) as steps:
            return await steps.finish(activity.heartbeat)

    @activity.defn
    async def abort_rebuild(self, state: RebuildState) -> RebuildProgress | None:
        """Delete the new generation, unless it serves; None if nothing had begun."""
        async with rebuild_steps(self._database, self._projection(state.order), state.order) as steps:
            return await steps.abort(state.status, state.detail, activity.heartbeat)

    @activity.defn
    async def record_rebuild_status(self, state: RebuildState) -> RebuildProgress | None:
        """Record that a rebuild is paused or goes on."""
        async with self._database.statements() as connection:
            await set_status(connection, state.order.rebuild_id, state.status, state.detail)
            return await find_rebuild(connection, state.order.rebuild_id)

    def _projection(self, order: RebuildOrder) -> Projection[Any]:
        try:
            return self._projections[order.projection]
        except KeyError as error:
            message = f"there is no projection {order.projection}; there are {', '.join(self._projections)}"
            raise ApplicationError(message, type="UnknownProjection", non_retryable=True) from error


def _final(error: Exception) -> ApplicationError:
    return ApplicationError(str(error), type=type(error).__name__, non_retryable=True)
