"""Require a second factor: save its secret, then publish its event."""

from temporalio import workflow

from activities.users import Users
from domain.command import SealedCommand
from workflows.command import CommandWorkflow


@workflow.defn(name="enable-second-factor")
class EnableSecondFactorWorkflow(CommandWorkflow):
    @workflow.run
    async def run(self, command: SealedCommand) -> str:
        saved = await self.save(Users.save_user, command)
        await self.publish(saved)
        return await self.done()
