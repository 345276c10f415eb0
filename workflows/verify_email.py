"""Verify an e-mail address by a link: save it, publish its event, and end the reminders."""

from temporalio import workflow

from activities.users import Users
from domain.command import SealedCommand
from workflows.command import CommandWorkflow
from workflows.email_verification import end_reminders


@workflow.defn(name="verify-email")
class VerifyEmailWorkflow(CommandWorkflow):
    @workflow.run
    async def run(self, command: SealedCommand) -> str:
        saved = await self.save(Users.save_user, command)
        await self.publish(saved)
        if saved:
            await end_reminders(saved.tenant_id, saved.aggregate_id)
        return await self.done()
