"""Register a user: save the account, publish its event, and remind the user to verify the e-mail address."""

from temporalio import workflow

from activities.users import Users
from domain.command import SealedCommand
from workflows.command import CommandWorkflow
from workflows.email_verification import start_reminders


@workflow.defn(name="register-user")
class RegisterUserWorkflow(CommandWorkflow):
    @workflow.run
    async def run(self, command: SealedCommand) -> str:
        saved = await self.save(Users.save_user, command)
        await self.publish(saved)
        if saved and saved.events and workflow.patched("email-verification"):
            await start_reminders(saved)
        return await self.done()
