"""What every command workflow shares: the answer that a client waits for, given once, on success and on refusal."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, FailureError

from activities.publishing import Published, Publishing
from domain.command import Command, Saved
from workflows import options

S = TypeVar("S", bound=Saved)


class SavedAnswer(Generic[S]):
    """The answer to a command, for whoever waits for it."""

    def __init__(self) -> None:
        self._saved: S | None = None
        self._refused: ApplicationError | None = None

    def give(self, saved: S) -> None:
        self._saved = saved

    async def wait(self) -> S:
        """The answer, as soon as there is one. Raises the refusal."""
        await workflow.wait_condition(lambda: self._saved is not None or self._refused is not None)
        if self._refused:
            raise self._refused
        assert self._saved is not None
        return self._saved

    @asynccontextmanager
    async def answering(self) -> AsyncIterator[None]:
        """Tell those who wait, before the run ends, that the command was refused or failed."""
        try:
            yield
        except FailureError as error:
            self._refused = leaf(error)
            workflow.set_current_details(f"Refused: {self._refused.message}")
            await workflow.wait_condition(workflow.all_handlers_finished)
            raise self._refused from error


def leaf(error: FailureError) -> ApplicationError:
    """What an activity said: an ordinary one's words come wrapped, a local one's as they are."""
    said = error.cause if isinstance(error, ActivityError) else error
    if isinstance(said, ApplicationError):
        return ApplicationError(said.message, *said.details, type=said.type, non_retryable=True)
    return ApplicationError(str(said or error), type="CommandFailed", non_retryable=True)


async def publish(command: Command, saved: Saved) -> None:
    """Tell the world, if saving has not done so: the events go to Kafka, however long the broker is away."""
    if saved.published:
        return
    newest = saved.events[-1]
    await workflow.execute_local_activity_method(
        Publishing.publish,
        Published(tenant_id=command.tenant_id, aggregate_id=newest.aggregate_id, version=newest.version),
        **options.PUBLISH,
    )
