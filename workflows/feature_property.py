"""Feature a property, or no longer: save it, then publish its event."""

from temporalio import workflow

from activities.properties import Properties
from domain.command import SealedCommand
from workflows.command import CommandWorkflow


@workflow.defn(name="feature-property")
class FeaturePropertyWorkflow(CommandWorkflow):
    """One decision of an administrator on a listing, from the request to the event."""

    @workflow.run
    async def run(self, command: SealedCommand) -> str:
        saved = await self.save(Properties.save_property, command)
        await self.publish(saved)
        return await self.done()
