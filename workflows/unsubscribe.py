"""Turn off mails by the link in one of them: save the preferences, then publish their event."""

from temporalio import workflow

from activities.preferences import NotificationPreferences
from domain.command import SealedCommand
from workflows.command import CommandWorkflow


@workflow.defn(name="unsubscribe")
class UnsubscribeWorkflow(CommandWorkflow):
    @workflow.run
    async def run(self, command: SealedCommand) -> str:
        saved = await self.save(NotificationPreferences.save_preferences, command)
        await self.publish(saved)
        return await self.done()
