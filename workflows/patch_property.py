"""Patch a property: save what is said anew of it, then publish what changed."""

from temporalio import workflow

from activities.properties import Properties
from domain.command import SealedCommand
from workflows.command import CommandWorkflow


@workflow.defn(name="patch-property")
class PatchPropertyWorkflow(CommandWorkflow):
    """One change of some fields of a listing, from the request to its events."""

    @workflow.run
    async def run(self, command: SealedCommand) -> str:
        saved = await self.save(Properties.save_property, command)
        await self.publish(saved)
        return await self.done()
