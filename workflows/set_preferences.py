"""Replace the preferences of notices of a user: save them, then publish their event."""

from temporalio import workflow

from activities.preferences import NotificationPreferences
from domain.command import SealedCommand
from workflows.command import CommandWorkflow


@workflow.defn(name="set-preferences")
class SetPreferencesWorkflow(CommandWorkflow):
    @workflow.run
    async def run(self, command: SealedCommand) -> str:
        saved = await self.save(NotificationPreferences.save_preferences, command)
        await self.publish(saved)
        return await self.done()
