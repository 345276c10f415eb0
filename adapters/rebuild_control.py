"""Starts, pauses, resumes and cancels rebuilds of projections, each a workflow with the projection in its id."""

from datetime import timedelta
from uuid import UUID, uuid4

from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from domain.rebuilds import WORKFLOW, RebuildOrder, Signal, workflow_id

_RPC_TIMEOUT = timedelta(seconds=5)
"""A call takes milliseconds; without a limit the client would retry for much longer."""


class AlreadyRunning(Exception):
    """The workflow of another rebuild of the projection is running."""


class NotRunning(Exception):
    """No workflow rebuilds the projection."""


class TemporalUnavailable(Exception):
    """Temporal does not answer."""


class RebuildControl:
    """The workflows that rebuild projections; `queue` is the task queue that they run on."""

    def __init__(self, client: Client, queue: str) -> None:
        self._client = client
        self._queue = queue

    async def start(self, projection: str, requested_by: UUID | None) -> RebuildOrder:
        """Start a rebuild. Raises AlreadyRunning, TemporalUnavailable."""
        order = RebuildOrder(rebuild_id=uuid4(), projection=projection, requested_by=requested_by)
        try:
            await self._client.start_workflow(
                WORKFLOW,
                order,
                id=workflow_id(projection),
                task_queue=self._queue,
                id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
                id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
                static_summary=f"Rebuild {projection}",
                rpc_timeout=_RPC_TIMEOUT,
            )
        except WorkflowAlreadyStartedError as error:
            raise AlreadyRunning from error
        except (RPCError, RuntimeError) as error:
            raise TemporalUnavailable(str(error)) from error
        return order

    async def send(self, projection: str, signal: Signal) -> None:
        """Have the rebuild of a projection paused, resumed or cancelled. Raises NotRunning, TemporalUnavailable."""
        handle = self._client.get_workflow_handle(workflow_id(projection))
        try:
            await handle.signal(signal.value, rpc_timeout=_RPC_TIMEOUT)
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                raise NotRunning from error
            raise TemporalUnavailable(str(error)) from error
        except RuntimeError as error:
            raise TemporalUnavailable(str(error)) from error

    async def is_running(self, projection: str) -> bool:
        """Whether the workflow of a rebuild of the projection is running or paused. Raises TemporalUnavailable."""
        handle = self._client.get_workflow_handle(workflow_id(projection))
        try:
            described = await handle.describe(rpc_timeout=_RPC_TIMEOUT)
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return False
            raise TemporalUnavailable(str(error)) from error
        except RuntimeError as error:
            raise TemporalUnavailable(str(error)) from error
        return described.status is WorkflowExecutionStatus.RUNNING
