"""Register a user: save the account, tell the world."""

from temporalio import workflow

from activities.users import Users
from domain.user import RegisterUser, UserSaved
from workflows import options
from workflows.command import SavedAnswer, publish


@workflow.defn(name="register-user")
class RegisterUserWorkflow:
    """One account, from the wish to the event."""

    @workflow.init
    def __init__(self, command: RegisterUser) -> None:
        self._saved = SavedAnswer[UserSaved]()

    @workflow.update(description="Answers once the account is saved")
    async def saved(self) -> UserSaved:
        return await self._saved.wait()

    @workflow.run
    async def run(self, command: RegisterUser) -> str:
        async with self._saved.answering():
            saved = await workflow.execute_local_activity_method(Users.save_user, command, **options.SAVE)
        self._saved.give(saved)
        await publish(command, saved)
        workflow.set_current_details(f"Saved as version {saved.user.version}, published")
        await workflow.wait_condition(workflow.all_handlers_finished)
        return f"user {saved.user.id} version {saved.user.version}: saved, published"
