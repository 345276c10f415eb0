"""Create a property: save it with the mail to its owner, then publish its event."""

from temporalio import workflow

from activities.properties import Properties
from domain.command import SealedCommand
from workflows.command import CommandWorkflow


@workflow.defn(name="create-property")
class CreatePropertyWorkflow(CommandWorkflow):
    """The outbox relay starts a `notify` workflow for the mail."""

    @workflow.run
    async def run(self, command: SealedCommand) -> str:
        saved = await self.save(Properties.save_property, command)
        await self.publish(saved)
        return await self.done()
