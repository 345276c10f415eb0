"""Change the role of an account: save it, then publish its event."""

from temporalio import workflow

from activities.users import Users
from domain.command import SealedCommand
from workflows.command import CommandWorkflow


@workflow.defn(name="change-role")
class ChangeRoleWorkflow(CommandWorkflow):
    """A command of an administrator, or of the operator."""

    @workflow.run
    async def run(self, command: SealedCommand) -> str:
        saved = await self.save(Users.save_user, command)
        await self.publish(saved)
        return await self.done()
