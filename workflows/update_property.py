"""Update a property: save what is said of it as a whole, then publish what changed."""

from temporalio import workflow

from activities.properties import Properties
from domain.command import SealedCommand
from workflows.command import CommandWorkflow


@workflow.defn(name="update-property")
class UpdatePropertyWorkflow(CommandWorkflow):
    """One change of a listing, from the request to its events."""

    @workflow.run
    async def run(self, command: SealedCommand) -> str:
        saved = await self.save(Properties.save_property, command)
        await self.publish(saved)
        return await self.done()
