"""Reconcile: find what got lost on its way from the event store, and send it on. Started by a schedule."""

from temporalio import workflow
from temporalio.exceptions import ActivityError

from activities.notifications import OverdueDeliveries
from activities.publishing import Reconciliation
from workflows import options


@workflow.defn(name="reconcile")
class ReconcileWorkflow:
    """One comparison of the event store with what was published and projected."""

    @workflow.run
    async def run(self) -> str:
        # First, and without holding up the rest: mails need no Kafka, and events no mail.
        deliveries, failed = 0, None
        try:
            deliveries = await workflow.execute_activity_method(OverdueDeliveries.start_overdue, **options.RECONCILE)
        except ActivityError as error:
            failed = error
        overdue = await workflow.execute_activity_method(Reconciliation.publish_overdue, **options.RECONCILE)
        lost = await workflow.execute_activity_method(Reconciliation.republish_unprojected, **options.RECONCILE)
        if failed:
            raise failed
        done = f"{overdue.published} overdue events published, {lost} unprojected ones published again"
        if overdue.unreadable:
            done += f", {overdue.unreadable} unreadable ones skipped"
        done += f", {deliveries} overdue deliveries started"
        workflow.set_current_details(done.capitalize())
        return done
