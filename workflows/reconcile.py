"""Reconcile: find stored events and deliveries that were not processed, and start them again. Run by a schedule."""

from temporalio import workflow
from temporalio.exceptions import ActivityError

from activities.erasing import OverdueErasures
from activities.exports import OverdueExports
from activities.overdue_deliveries import OverdueDeliveries
from activities.overdue_files import OverdueFiles
from activities.overdue_imports import OverdueImports
from activities.overdue_saved_searches import OverdueSavedSearches
from activities.placing import Placing
from activities.publishing import Reconciliation
from activities.sweeping import Sweeping
from activities.verifications import OverdueVerifications
from workflows import options


@workflow.defn(name="reconcile")
class ReconcileWorkflow:
    """One run: overdue deliveries, overdue events, then what is lost of accounts, exports and saved searches."""

    @workflow.run
    async def run(self) -> str:
        # A failure of the deliveries is raised at the end: events are published even so.
        deliveries, failed = 0, None
        try:
            deliveries = await workflow.execute_activity_method(OverdueDeliveries.start_overdue, **options.RECONCILE)
        except ActivityError as error:
            failed = error
        overdue = await workflow.execute_activity_method(Reconciliation.publish_overdue, **options.RECONCILE)
        verifications = 0
        if workflow.patched("email-verification"):
            verifications = await workflow.execute_activity_method(
                OverdueVerifications.start_overdue_verifications, **options.RECONCILE
            )
        erasures = 0
        if workflow.patched("erasures"):
            erasures = await workflow.execute_activity_method(
                OverdueErasures.start_overdue_erasures, **options.RECONCILE
            )
        exports = expired = 0
        if workflow.patched("exports"):
            exports = await workflow.execute_activity_method(OverdueExports.start_overdue_exports, **options.RECONCILE)
            expired = await workflow.execute_activity_method(OverdueExports.delete_expired_exports, **options.RECONCILE)
        searches = 0
        if workflow.patched("saved-searches"):
            searches = await workflow.execute_activity_method(
                OverdueSavedSearches.start_overdue_saved_searches, **options.RECONCILE
            )
        images = documents = imports = swept = 0
        if workflow.patched("files"):
            images = await workflow.execute_activity_method(OverdueFiles.start_overdue_images, **options.RECONCILE)
            documents = await workflow.execute_activity_method(
                OverdueFiles.start_overdue_documents, **options.RECONCILE
            )
            imports = await workflow.execute_activity_method(OverdueImports.start_overdue_imports, **options.RECONCILE)
            swept = await workflow.execute_activity_method(Sweeping.sweep_files, **options.RECONCILE)
        placed = 0
        if workflow.patched("places"):
            placed = await workflow.execute_activity_method(Placing.fill_places, **options.RECONCILE)
        if failed:
            raise failed
        done = f"{overdue.published} overdue events published"
        if overdue.unreadable:
            done += f", {overdue.unreadable} unreadable ones skipped"
        done += f", {deliveries} overdue deliveries started"
        if verifications:
            done += f", the reminders of {verifications} accounts started again"
        if erasures:
            done += f", {erasures} erasures started again"
        if exports:
            done += f", {exports} exports started again"
        if expired:
            done += f", {expired} files of exports deleted"
        if searches:
            done += f", {searches} saved searches started again"
        if images:
            done += f", the pictures of {images} commands started again"
        if documents:
            done += f", {documents} documents checked again"
        if swept:
            done += f", {swept} unused files deleted"
        if imports:
            done += f", {imports} imports started again"
        if placed:
            done += f", the places of {placed} listings filled"
        workflow.set_current_details(done.capitalize())
        return done
