"""Stop the mails of a saved search, by the link in one: save, end its rounds, then publish."""

from temporalio import workflow

from activities.saved_searches import SavedSearches
from domain.command import SealedCommand
from workflows.command import CommandWorkflow
from workflows.saved_search import signal_rounds


@workflow.defn(name="pause-saved-search")
class PauseSavedSearchWorkflow(CommandWorkflow):
    @workflow.run
    async def run(self, command: SealedCommand) -> str:
        saved = await self.save(SavedSearches.save_saved_search, command)
        if saved and saved.events:
            await signal_rounds(saved)
        await self.publish(saved)
        return await self.done()
