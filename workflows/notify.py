"""Notify: send the mails that were promised in one moment. Started by the relay, and by reconcile for what got lost."""

from temporalio import workflow
from temporalio.exceptions import ActivityError

from activities.notifications import Notifications
from activities.relay import Outgoing
from workflows import options
from workflows.command import leaf


@workflow.defn(name="notify")
class NotifyWorkflow:
    """Some mails, until each is sent or given up."""

    @workflow.run
    async def run(self, what: Outgoing) -> str:
        try:
            done = await workflow.execute_activity_method(Notifications.send_promised, what, **options.NOTIFY)
        except ActivityError as error:
            # What they are about is done, whether or not somebody can be told.
            workflow.logger.warning("not everybody can be told: %s", leaf(error).message)
            done = f"given up: {leaf(error).message}"
        workflow.set_current_details(done)
        return done
