"""Import properties: save the import, start the workflow that reads its file, then publish the event.

The workflow is started first, because it goes on while Kafka is unavailable.
"""

from contextlib import suppress

from temporalio import workflow
from temporalio.exceptions import WorkflowAlreadyStartedError

from activities.import_commands import ImportCommands
from activities.import_rows import search_attributes_of_import
from domain.command import Saved, SealedCommand
from domain.imports import ImportOrder
from workflows import options
from workflows.command import CommandWorkflow
from workflows.import_file import ImportFileWorkflow


@workflow.defn(name="import-properties")
class ImportPropertiesWorkflow(CommandWorkflow):
    @workflow.run
    async def run(self, command: SealedCommand) -> str:
        saved = await self.save(ImportCommands.save_import, command)
        if saved and saved.events:
            await _start(saved)
        await self.publish(saved)
        return await self.done()


async def _start(saved: Saved) -> None:
    order = ImportOrder(tenant_id=saved.tenant_id, import_id=saved.aggregate_id, user_id=saved.events[0].user_id)
    with suppress(WorkflowAlreadyStartedError):  # by reconcile, which has found the import first
        await workflow.start_child_workflow(
            ImportFileWorkflow.run,
            order,
            id=order.workflow_id,
            task_queue=options.IMPORTS,
            parent_close_policy=workflow.ParentClosePolicy.ABANDON,
            search_attributes=search_attributes_of_import(order),
            static_summary="Import a file of listings",
        )
