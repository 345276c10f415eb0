"""Erase a user: save and publish it, withdraw the listings, send the last mail, then delete the data and the key."""

from temporalio import workflow
from temporalio.exceptions import ActivityError

from activities.erasing import Erasing, Erasures
from activities.users import Users
from domain.command import Saved, SealedCommand
from workflows import options
from workflows.command import CommandWorkflow, cause_of


@workflow.defn(name="erase-user")
class EraseUserWorkflow(CommandWorkflow):
    @workflow.run
    async def run(self, command: SealedCommand) -> str:
        saved = await self.save(Users.save_user, command)
        await self.publish(saved)
        if saved and saved.events:
            await _erase(saved)
        return await self.done()


async def _erase(saved: Saved) -> None:
    account = Erasing(tenant_id=saved.tenant_id, user_id=saved.aggregate_id, command_id=saved.command_id)
    workflow.set_current_details("Withdrawing the listings and favourites")
    await workflow.execute_activity_method(Erasures.withdraw_listings, account, **options.ERASE)
    workflow.set_current_details("Waiting until the last mail is sent: it needs the address")
    try:
        await workflow.execute_activity_method(Erasures.ensure_notified, account, **options.LAST_MAIL)
    except ActivityError as error:
        workflow.logger.warning("the account is erased before its last mail is sent: %s", cause_of(error).message)
    workflow.set_current_details("Deleting the personal data")
    await workflow.execute_activity_method(Erasures.delete_listings, account, **options.ERASE)
    await workflow.execute_activity_method(Erasures.delete_executions, account, **options.ERASE)
    await workflow.execute_activity_method(Erasures.delete_cached, account, **options.ERASE)
    await workflow.execute_activity_method(Erasures.delete_rows, account, **options.ERASE)
    # Last, because the steps before it may need to read.
    await workflow.execute_activity_method(Erasures.destroy_key, account, **options.ERASE)
    workflow.set_current_details("Erased; waiting until the access tokens of the closed sessions have expired")
    while seconds := await workflow.execute_activity_method(Erasures.delete_sessions, account, **options.ERASE):
        await workflow.sleep(seconds)
