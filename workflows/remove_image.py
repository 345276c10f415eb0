"""Remove an image from a listing: save it, then publish its event."""

from temporalio import workflow

from activities.properties import Properties
from domain.command import SealedCommand
from workflows.command import CommandWorkflow


@workflow.defn(name="remove-image")
class RemoveImageWorkflow(CommandWorkflow):
    @workflow.run
    async def run(self, command: SealedCommand) -> str:
        saved = await self.save(Properties.save_property, command)
        await self.publish(saved)
        return await self.done()
