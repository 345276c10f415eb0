"""Notify: send deliveries of the outbox. Started by the outbox relay, and by reconcile for what got lost."""

from temporalio import workflow
from temporalio.exceptions import ActivityError

from activities.notifications import Notifications
from activities.outbox_relay import Outgoing
from workflows import options
from workflows.command import cause_of


@workflow.defn(name="notify")
class NotifyWorkflow:
    """Some deliveries, until each is sent or given up."""

    @workflow.run
    async def run(self, what: Outgoing) -> str:
        try:
            done = await workflow.execute_activity_method(Notifications.send_deliveries, what, **options.NOTIFY)
        except ActivityError as error:
            # What they are about is done, whether or not somebody can be notified.
            workflow.logger.warning("deliveries are given up: %s", cause_of(error).message)
            done = f"given up: {cause_of(error).message}"
        workflow.set_current_details(done)
        return done
