"""Export a history: save and publish the request, then write the file and publish the event that mails its link.

Reconcile deletes the file when the link has ended: a timer of this workflow would be lost with Temporal.
"""

from temporalio import workflow

from activities.exports import Exporting, Exports
from activities.publishing import Publishing
from activities.users import Users
from domain.command import Saved, SealedCommand
from workflows import options
from workflows.command import CommandWorkflow


@workflow.defn(name="export-history")
class ExportHistoryWorkflow(CommandWorkflow):
    @workflow.run
    async def run(self, command: SealedCommand) -> str:
        saved = await self.save(Users.save_user, command)
        await self.publish(saved)
        if saved and saved.events:
            await _export(saved)
        return await self.done()


async def _export(saved: Saved) -> None:
    workflow.set_current_details("Writing the file")
    exporting = Exporting(tenant_id=saved.tenant_id, user_id=saved.aggregate_id, command_id=saved.command_id)
    recorded = await workflow.execute_activity_method(Exports.write_export, exporting, **options.EXPORT)
    if recorded:
        await workflow.execute_local_activity_method(Publishing.publish_observations, recorded, **options.PUBLISH)
