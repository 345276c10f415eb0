"""The base class of command workflows: save, answer the update `saved`, publish, and complete."""

from collections.abc import Callable
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, FailureError

from activities.publishing import Publishing
from domain.command import Saved, SealedCommand
from workflows import options


class CommandWorkflow:
    """A command; the `run` of a subclass has its steps, in order.

    A refusal is a result, not a failure: the update fails with the refusal, and the workflow completes.
    """

    def __init__(self) -> None:
        self._saved: Saved | None = None
        self._failure: ApplicationError | None = None

    @workflow.update(description="Answers once the command is saved")
    async def saved(self) -> Saved:
        """The answer of the command, once it is saved. Raises the refusal."""
        await workflow.wait_condition(lambda: self._saved is not None or self._failure is not None)
        if self._failure:
            raise self._failure
        assert self._saved is not None
        return self._saved

    async def save(self, activity: Callable[[Any, SealedCommand], Any], command: SealedCommand) -> Saved | None:
        """Save the command, with retries while the database is unavailable; None when it is refused."""
        try:
            self._saved = await workflow.execute_local_activity_method(activity, command, **options.SAVE)
        except FailureError as error:
            self._failure = cause_of(error)
            if self._failure.type == "CommandFailed":
                await workflow.wait_condition(workflow.all_handlers_finished)
                raise self._failure from error
        return self._saved

    async def publish(self, saved: Saved | None) -> None:
        """Publish the events of a saved command to Kafka, with retries while the broker is unavailable."""
        if saved and saved.events:
            await workflow.execute_local_activity_method(Publishing.publish, saved, **options.PUBLISH)

    async def done(self) -> str:
        """Wait for the update handlers; returns the outcome of the command in one line."""
        await workflow.wait_condition(workflow.all_handlers_finished)
        if self._failure:
            outcome = f"refused ({self._failure.type}): {self._failure.message}"
        else:
            assert self._saved is not None
            events = ", ".join(event.event_type for event in self._saved.events) or "nothing changed"
            outcome = f"{self._saved.aggregate_id} version {self._saved.version}: {events}"
        workflow.set_current_details(outcome[:1].upper() + outcome[1:])
        return outcome


def cause_of(error: FailureError) -> ApplicationError:
    """The error that an activity raised: a regular activity's is wrapped in ActivityError, a local one's is not."""
    cause = error.cause if isinstance(error, ActivityError) else error
    if isinstance(cause, ApplicationError) and cause.non_retryable:
        return ApplicationError(cause.message, *cause.details, type=cause.type, non_retryable=True)
    message = cause.message if isinstance(cause, FailureError) else error.message
    return ApplicationError(message, type="CommandFailed", non_retryable=True)
