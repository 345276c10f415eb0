"""Starts the rounds of saved searches whose workflow is lost."""

from datetime import UTC, datetime, timedelta

from temporalio import activity
from temporalio.client import Client
from temporalio.exceptions import WorkflowAlreadyStartedError

from activities.saved_search_rounds import SavedSearchOf, search_attributes
from adapters import saved_searches
from adapters.postgres import Database
from adapters.saved_searches import Due

_LOST_AFTER = timedelta(minutes=15)
"""A round takes seconds: its workflow is lost, or something that it needs is unavailable."""
_LIMIT = 500
"""Saved searches of a page, and about the most workflows that one run starts: reconcile runs again after a minute."""


class OverdueSavedSearches:
    """Finds saved searches whose workflow is lost: Temporal was wiped, or their owner may sign in again."""

    def __init__(self, database: Database, client: Client, queue: str) -> None:
        self._database = database
        self._client = client
        self._queue = queue

    @activity.defn
    async def start_overdue_saved_searches(self) -> int:
        """Start the workflows of saved searches with an overdue round; returns how many.

        It looks beyond those that run already, because something that they need is unavailable.
        """
        now, started, last = datetime.now(UTC), 0, None
        while started < _LIMIT:
            async with self._database.statements() as connection:
                overdue = await saved_searches.overdue(connection, now, _LOST_AFTER, _LIMIT, last)
            for last in overdue:
                activity.heartbeat(started)
                started += await self._start(last)
            if len(overdue) < _LIMIT:
                break
        return started

    async def _start(self, due: Due) -> bool:
        """Start the workflow of a saved search; False if it runs already."""
        of = SavedSearchOf(tenant_id=due.tenant_id, saved_search_id=due.saved_search_id, user_id=due.user_id)
        try:
            await self._client.start_workflow(
                "saved-search", of, id=of.workflow_id, task_queue=self._queue, search_attributes=search_attributes(of)
            )
        except WorkflowAlreadyStartedError:
            return False
        return True
