"""Stop requiring a second factor: delete its secret, then publish its event."""

from temporalio import workflow

from activities.users import Users
from domain.command import SealedCommand
from workflows.command import CommandWorkflow


@workflow.defn(name="disable-second-factor")
class DisableSecondFactorWorkflow(CommandWorkflow):
    @workflow.run
    async def run(self, command: SealedCommand) -> str:
        saved = await self.save(Users.save_user, command)
        await self.publish(saved)
        return await self.done()
