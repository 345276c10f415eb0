"""Reconcile: find what got lost on its way from the event store, and send it on. Started by a schedule."""

from temporalio import workflow

from activities.notifications import OverdueMails
from activities.publishing import Reconciliation
from workflows import options


@workflow.defn(name="reconcile")
class ReconcileWorkflow:
    """One comparison of the event store with what was published and projected."""

    @workflow.run
    async def run(self) -> str:
        # First, for mails need no Kafka, and the other steps end the run when there is none.
        mails = 0
        if workflow.patched("notify-overdue"):
            mails = await workflow.execute_activity_method(OverdueMails.notify_overdue, **options.RECONCILE)
        overdue = await workflow.execute_activity_method(Reconciliation.publish_overdue, **options.RECONCILE)
        lost = await workflow.execute_activity_method(Reconciliation.republish_unprojected, **options.RECONCILE)
        done = f"{overdue} overdue events published, {lost} lost ones published again, {mails} lost mails sent for"
        workflow.set_current_details(done.capitalize())
        return done
