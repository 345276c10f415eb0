"""Change the caption of an image, or the primary one: save it, then publish its event."""

from temporalio import workflow

from activities.properties import Properties
from domain.command import SealedCommand
from workflows.command import CommandWorkflow


@workflow.defn(name="change-image")
class ChangeImageWorkflow(CommandWorkflow):
    @workflow.run
    async def run(self, command: SealedCommand) -> str:
        saved = await self.save(Properties.save_property, command)
        await self.publish(saved)
        return await self.done()
