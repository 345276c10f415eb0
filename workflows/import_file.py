"""Import: read a file and save its rows as listings, in steps, until it is read, paused, cancelled or has failed.

How far it has come and whether it is paused is in the row of the import, so the signal needs no content: whatever has
changed, it is read again. A pause ends the workflow; resuming starts it, or if it has not ended yet, has it go on.
Reconcile starts the workflow again if it is lost with Temporal.
"""

from uuid import UUID, uuid5

from temporalio import workflow
from temporalio.exceptions import FailureError

from activities.import_commands import ImportCommands
from activities.import_rows import ImportRows, ImportStep
from activities.publishing import Publishing
from domain.command import FAILED
from domain.imports import WORKFLOW, FinishImport, ImportOrder
from workflows import options
from workflows.command import cause_of


@workflow.defn(name=WORKFLOW)
class ImportFileWorkflow:
    @workflow.init
    def __init__(self, order: ImportOrder) -> None:
        self._changed = False

    @workflow.signal(description="The import was resumed or cancelled")
    def changed(self) -> None:
        self._changed = True

    @workflow.run
    async def run(self, order: ImportOrder) -> str:
        while True:
            self._changed = False
            step = await workflow.execute_activity_method(ImportRows.import_rows, order, **options.IMPORT)
            workflow.set_current_details(step.details)
            if step.outcome == "ended":
                await self._finish(order, step)
            if step.outcome != "more" and not (step.outcome == "paused" and self._changed):
                return step.details
            if workflow.info().is_continue_as_new_suggested():
                workflow.continue_as_new(order)

    async def _finish(self, order: ImportOrder, step: ImportStep) -> None:
        assert step.status
        command = FinishImport(
            command_id=finish_id(order.import_id),
            tenant_id=order.tenant_id,
            user_id=order.user_id,
            issued_at=workflow.now(),
            import_id=order.import_id,
            status=step.status,
            reason=step.reason,
        )
        sealed = command.model_dump(mode="json", by_alias=True)
        try:
            saved = await workflow.execute_local_activity_method(ImportCommands.save_import, sealed, **options.SAVE)
        except FailureError as error:
            if cause_of(error).type == FAILED:
                raise
            return  # the account is erased, with the import
        if saved.events:
            await workflow.execute_local_activity_method(Publishing.publish, saved, **options.PUBLISH)


def finish_id(import_id: UUID) -> UUID:
    """The id of the command that finishes an import."""
    return uuid5(import_id, "finish")
