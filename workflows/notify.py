"""Notify: send deliveries of the outbox. Started by the outbox relay, and by reconcile for what got lost."""

from temporalio import workflow
from temporalio.exceptions import ActivityError

from activities.notifications import Notifications
from activities.outbox_relay import DeliveryBatch
from workflows import options
from workflows.command import cause_of


@workflow.defn(name="notify")
class NotifyWorkflow:
    """A batch of deliveries, retried until each is sent or given up."""

    @workflow.run
    async def run(self, batch: DeliveryBatch) -> str:
        try:
            done = await workflow.execute_activity_method(Notifications.send_deliveries, batch, **options.NOTIFY)
        except ActivityError as error:
            # The commands are saved, so a mail that cannot be sent is no failed workflow.
            workflow.logger.warning("deliveries are given up: %s", cause_of(error).message)
            done = f"given up: {cause_of(error).message}"
        workflow.set_current_details(done)
        return done
