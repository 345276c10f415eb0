"""Reconcile: find what got lost on its way from the event store, and send it on. Started by a schedule."""

from temporalio import workflow

from activities.publishing import Reconciliation
from workflows import options


@workflow.defn(name="reconcile")
class ReconcileWorkflow:
    """One comparison of the event store with what was published and projected."""

    @workflow.run
    async def run(self) -> str:
        overdue = await workflow.execute_activity_method(Reconciliation.publish_overdue, **options.RECONCILE)
        lost = await workflow.execute_activity_method(Reconciliation.republish_unprojected, **options.RECONCILE)
        return f"{overdue} overdue events published, {lost} lost ones published again"
