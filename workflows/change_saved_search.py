"""Change a saved search: save the command, have its rounds follow, then publish its event."""

from temporalio import workflow

from activities.saved_searches import SavedSearches
from domain.command import SealedCommand
from workflows.command import CommandWorkflow
from workflows.saved_search import start_rounds


@workflow.defn(name="change-saved-search")
class ChangeSavedSearchWorkflow(CommandWorkflow):
    @workflow.run
    async def run(self, command: SealedCommand) -> str:
        saved = await self.save(SavedSearches.save_saved_search, command)
        if saved and saved.events:
            await start_rounds(saved)
        await self.publish(saved)
        return await self.done()
