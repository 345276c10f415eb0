"""Delete a document: save the command, then publish its event. The sweep deletes its bytes."""

from temporalio import workflow

from activities.documents import Documents
from domain.command import SealedCommand
from workflows.command import CommandWorkflow


@workflow.defn(name="delete-document")
class DeleteDocumentWorkflow(CommandWorkflow):
    @workflow.run
    async def run(self, command: SealedCommand) -> str:
        await self.publish(await self.save(Documents.save_document, command))
        return await self.done()
