"""Remove a listing from a user's favourites: save it, then publish its event."""

from temporalio import workflow

from activities.favorites import Favorites
from domain.command import SealedCommand
from workflows.command import CommandWorkflow


@workflow.defn(name="unfavorite-property")
class UnfavoritePropertyWorkflow(CommandWorkflow):
    @workflow.run
    async def run(self, command: SealedCommand) -> str:
        saved = await self.save(Favorites.save_favorite, command)
        await self.publish(saved)
        return await self.done()
