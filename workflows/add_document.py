"""Add a document: save it, check its bytes and store them, and publish what became of it."""

from temporalio import workflow

from activities.documents import CheckingDocument, DocumentFiles, Documents
from domain.command import SealedCommand
from domain.documents import AddDocument
from workflows import options
from workflows.command import CommandWorkflow


@workflow.defn(name="add-document")
class AddDocumentWorkflow(CommandWorkflow):
    @workflow.run
    async def run(self, command: SealedCommand) -> str:
        saved = await self.save(Documents.save_document, command)
        await self.publish(saved)
        if saved and saved.events:
            await self._check(AddDocument.model_validate(command))
        return await self.done()

    async def _check(self, command: AddDocument) -> None:
        checking = CheckingDocument(
            tenant_id=command.tenant_id,
            user_id=command.user_id,
            file_id=command.file_id,
            upload_id=command.upload_id,
        )
        # Without the name of the file, which is in no command.
        summary = options.file_size(command.size) if command.size else "a document"
        check = options.named(options.CHECK_DOCUMENT, summary)
        await self.publish(await workflow.execute_activity_method(DocumentFiles.check_document, checking, **check))
