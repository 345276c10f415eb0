"""Saved search: wait until a round is due, report new matches, and wait for the next, until it is paused or deleted.

When the next round is due is read from the saved search, so a signal needs no content: whatever has changed, it is read
again. Reconcile starts a workflow again that is lost with Temporal; it goes on where the last round has come to.
"""

from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError

from activities.publishing import Publishing
from activities.saved_search_rounds import Round, RoundDone, SavedSearchOf, SavedSearchRounds, search_attributes
from domain.command import Saved
from domain.observations import RecordedActivity
from workflows import options

_ROUNDS = 100
"""Rounds of one run: a history of some thousand events, and with instant mails less than a day."""
_ATTEMPTS = 3
"""To start rounds whose workflow ends between the start that is refused and the signal. Reconcile starts it then."""
_NOT_FOUND = "ExternalWorkflowExecutionNotFound"
"""The type of the SDK's error for a signal to a workflow that is not there, or has completed."""


@workflow.defn(name="saved-search")
class SavedSearchWorkflow:
    @workflow.init
    def __init__(self, of: SavedSearchOf) -> None:
        self._changed = False

    @workflow.signal(description="The saved search was changed, paused or deleted")
    def changed(self) -> None:
        self._changed = True

    @workflow.run
    async def run(self, of: SavedSearchOf) -> str:
        due_at = await self._next_round(of)
        for _ in range(_ROUNDS):
            if due_at is None:
                if not self._changed:
                    return "paused or deleted"
                due_at = await self._next_round(of)  # resumed since it was looked at
                continue
            workflow.set_current_details(f"Next round at {due_at:%Y-%m-%d %H:%M} UTC")
            if await self._changed_before(due_at):
                due_at = await self._next_round(of)
                continue
            done = await self._round(of)
            if done.unread and not self._changed:
                return "paused, because its last mails were not read"
            due_at = done.due_at  # None if it was resumed while it paused itself
        workflow.continue_as_new(of)

    async def _next_round(self, of: SavedSearchOf) -> datetime | None:
        self._changed = False
        return await workflow.execute_local_activity_method(SavedSearchRounds.next_round, of, **options.SAVE)

    async def _changed_before(self, due_at: datetime) -> bool:
        left = max(due_at - workflow.now(), timedelta())
        try:
            await workflow.wait_condition(lambda: self._changed, timeout=left, timeout_summary="next round")
        except TimeoutError:
            return False
        return True

    async def _round(self, of: SavedSearchOf) -> RoundDone:
        round = Round(**dict(of), at=workflow.now())
        done = await workflow.execute_activity_method(SavedSearchRounds.find_matches, round, **options.FIND_MATCHES)
        if done.unread:
            saved = await workflow.execute_local_activity_method(SavedSearchRounds.pause_unread, round, **options.SAVE)
            await workflow.execute_local_activity_method(Publishing.publish, saved, **options.PUBLISH)
        elif done.recorded:
            recorded = RecordedActivity(tenant_id=of.tenant_id, command_id=done.recorded)
            await workflow.execute_local_activity_method(Publishing.publish_observations, recorded, **options.PUBLISH)
        return done


async def start_rounds(saved: Saved) -> None:
    """Start the rounds of a saved search, or have the running ones follow a change."""
    of = _of(saved)
    for _ in range(_ATTEMPTS):
        try:
            await workflow.start_child_workflow(
                SavedSearchWorkflow.run,
                of,
                id=of.workflow_id,
                task_queue=options.NOTIFICATIONS,
                parent_close_policy=workflow.ParentClosePolicy.ABANDON,
                search_attributes=search_attributes(of),
                static_summary="Find new matches",
            )
            return
        except WorkflowAlreadyStartedError:
            if await signal_rounds(saved):
                return


async def signal_rounds(saved: Saved) -> bool:
    """Have the rounds of a saved search follow a change, which ends them when it is paused or deleted.

    False if there are none: they have ended.
    """
    handle: workflow.ExternalWorkflowHandle[SavedSearchWorkflow] = workflow.get_external_workflow_handle_for(
        SavedSearchWorkflow.run, _of(saved).workflow_id
    )
    try:
        await handle.signal(SavedSearchWorkflow.changed)
    except ApplicationError as error:
        if error.type != _NOT_FOUND:
            raise
        return False
    return True


def _of(saved: Saved) -> SavedSearchOf:
    return SavedSearchOf(tenant_id=saved.tenant_id, saved_search_id=saved.aggregate_id, user_id=saved.events[0].user_id)
