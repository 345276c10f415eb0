"""Create a property: save it with the promise to confirm it to its owner, and tell the world."""

from temporalio import workflow
from temporalio.exceptions import ActivityError

from activities.notifications import Confirmation, Notifications
from activities.properties import Properties
from domain.property import CreateProperty, PropertySaved
from workflows import options
from workflows.command import SavedAnswer, leaf, publish


@workflow.defn(name="create-property")
class CreatePropertyWorkflow:
    """One listing, from the wish to the event; `notify` sends the confirmation."""

    @workflow.init
    def __init__(self, command: CreateProperty) -> None:
        self._saved = SavedAnswer[PropertySaved]()

    @workflow.update(description="Answers once the property is saved")
    async def saved(self) -> PropertySaved:
        return await self._saved.wait()

    @workflow.run
    async def run(self, command: CreateProperty) -> str:
        async with self._saved.answering():
            saved = await workflow.execute_local_activity_method(Properties.save_property, command, **options.SAVE)
        self._saved.give(saved)
        await publish(command, saved)
        # Those saved before there was an outbox confirm themselves.
        told = "confirmation promised" if saved.confirmation_promised else f"owner {await _confirm(command, saved)}"
        done = f"version {saved.property.version}: saved, published, {told}"
        workflow.set_current_details(done.capitalize())
        await workflow.wait_condition(workflow.all_handlers_finished)
        return f"property {saved.property.id} {done}"


async def _confirm(command: CreateProperty, saved: PropertySaved) -> str:
    confirmation = Confirmation(
        tenant_id=command.tenant_id,
        command_id=command.command_id,
        event_id=saved.events[-1].event_id,
        owner_id=saved.property.owner_id,
        property_id=saved.property.id,
    )
    try:
        return await workflow.execute_activity_method(
            Notifications.confirm_property_created, confirmation, **options.NOTIFY
        )
    except ActivityError as error:
        # The property is listed whether or not its owner can be reached.
        workflow.logger.warning("the owner cannot be told: %s", leaf(error).message)
        return f"not told: {leaf(error).message}"
