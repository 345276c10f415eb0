"""Request a link that verifies an e-mail address: save the link, then publish its event."""

from temporalio import workflow

from activities.users import Users
from domain.command import SealedCommand
from workflows.command import CommandWorkflow


@workflow.defn(name="request-verification")
class RequestVerificationWorkflow(CommandWorkflow):
    """A request for an unknown address is refused by the save, which nobody waits for."""

    @workflow.run
    async def run(self, command: SealedCommand) -> str:
        saved = await self.save(Users.save_user, command)
        await self.publish(saved)
        return await self.done()
