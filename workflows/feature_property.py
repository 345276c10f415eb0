"""Set or clear a listing's flag `isFeatured`: save it, then publish its event."""

from temporalio import workflow

from activities.properties import Properties
from domain.command import SealedCommand
from workflows.command import CommandWorkflow


@workflow.defn(name="feature-property")
class FeaturePropertyWorkflow(CommandWorkflow):
    """A command of administrators."""

    @workflow.run
    async def run(self, command: SealedCommand) -> str:
        saved = await self.save(Properties.save_property, command)
        await self.publish(saved)
        return await self.done()
