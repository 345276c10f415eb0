"""Add a listing to a user's favourites: save it, then publish its event."""

from temporalio import workflow

from activities.favorites import Favorites
from domain.command import SealedCommand
from workflows.command import CommandWorkflow


@workflow.defn(name="favorite-property")
class FavoritePropertyWorkflow(CommandWorkflow):
    @workflow.run
    async def run(self, command: SealedCommand) -> str:
        saved = await self.save(Favorites.save_favorite, command)
        await self.publish(saved)
        return await self.done()
