"""Notify: expand the notices of events to deliveries, and send them. Started by the outbox relay, and by reconcile."""

from contextlib import suppress

from temporalio import workflow
from temporalio.exceptions import ActivityError, WorkflowAlreadyStartedError

from activities.deliveries import Deliveries
from activities.notices import DeliveryBatch, FavoritesOf, Notices
from activities.outbox_relay import of_tenant
from workflows import options
from workflows.command import cause_of
from workflows.delivering import deliver, start_digests
from workflows.notify_favorites import NotifyFavoritesWorkflow


@workflow.defn(name="notify")
class NotifyWorkflow:
    """A batch of events, whose deliveries are retried until each is sent or given up."""

    @workflow.run
    async def run(self, batch: DeliveryBatch) -> str:
        if not workflow.patched("channels"):
            return await self._mail(batch)
        expanded = await workflow.execute_activity_method(Notices.expand_notices, batch, **options.EXPAND)
        for of in expanded.favorites:
            await self._start_favorites(of)
        await start_digests(expanded.digests)
        done = await deliver(batch.tenant_id, expanded, options.SEND)
        if expanded.favorites:
            done += "; its favourites are notified by a workflow of their own"
        workflow.set_current_details(done.capitalize())
        return done

    async def _start_favorites(self, of: FavoritesOf) -> None:
        with suppress(WorkflowAlreadyStartedError):  # by an earlier attempt
            await workflow.start_child_workflow(
                NotifyFavoritesWorkflow.run,
                of,
                id=f"notify-favorites/{of.tenant_id}/{of.event_id}",
                parent_close_policy=workflow.ParentClosePolicy.ABANDON,
                search_attributes=of_tenant(of.tenant_id),
                static_summary=f"{of.kind} to everyone who has the listing as favourite",
            )

    async def _mail(self, batch: DeliveryBatch) -> str:
        try:
            done = await workflow.execute_activity_method(Deliveries.send_deliveries, batch, **options.NOTIFY)
        except ActivityError as error:
            # The commands are saved, so a mail that cannot be sent is no failed workflow.
            workflow.logger.warning("deliveries are given up: %s", cause_of(error).message)
            done = f"given up: {cause_of(error).message}"
        workflow.set_current_details(done)
        return done
