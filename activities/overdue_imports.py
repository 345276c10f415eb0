"""Starts imports whose workflow is lost."""

from datetime import UTC, datetime, timedelta

from temporalio import activity
from temporalio.client import Client
from temporalio.exceptions import WorkflowAlreadyStartedError

from adapters import imports
from adapters.imports import ImportRow
from adapters.postgres import Database
from adapters.temporal import search_attributes_of_import
from domain.imports import WORKFLOW, ImportOrder

_LIMIT = 500
"""Imports of a page, and about the most of one run: reconcile runs again after a minute."""


class OverdueImports:
    """Finds imports that should go on and do not, because Temporal was wiped."""

    def __init__(self, database: Database, client: Client, queue: str, after_seconds: float) -> None:
        self._database = database
        self._client = client
        self._queue = queue
        self._after = timedelta(seconds=after_seconds)

    @activity.defn
    async def start_overdue_imports(self) -> int:
        """Start the workflows of imports that should go on; returns how many.

        It looks beyond those that run already, because something that they need is unavailable.
        """
        before, started, last = datetime.now(UTC) - self._after, 0, None
        while started < _LIMIT:
            async with self._database.statements() as connection:
                overdue = await imports.overdue(connection, before, _LIMIT, last)
            for last in overdue:
                activity.heartbeat(started)
                started += await self._start(last)
            if len(overdue) < _LIMIT:
                break
        return started

    async def _start(self, row: ImportRow) -> bool:
        """Start the workflow of an import; False if it runs already."""
        order = ImportOrder(tenant_id=row.tenant_id, import_id=row.import_id, user_id=row.user_id)
        try:
            await self._client.start_workflow(
                WORKFLOW,
                order,
                id=order.workflow_id,
                task_queue=self._queue,
                search_attributes=search_attributes_of_import(order),
            )
        except WorkflowAlreadyStartedError:
            return False
        return True
