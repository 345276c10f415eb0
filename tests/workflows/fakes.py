"""Activities that do as a test tells them, registered under the names of the real ones."""

from collections.abc import Callable
from typing import Any

from activities.relay import Outgoing
from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.notifications import Confirmation
from activities.publishing import Published, PublishedOverdue
from domain.events import recorded
from domain.property import CreateProperty, PropertySaved
from domain.property import decide as decide_property
from domain.property import evolve as evolve_property
from domain.user import RegisterUser, UserSaved
from domain.user import decide as decide_user
from domain.user import evolve as evolve_user


class Script:
    """What happens at each attempt of each activity, and what did happen."""

    def __init__(
        self, *, published: bool = False, promised: bool = True, unreadable: int = 0, **failures: list[Exception]
    ) -> None:
        """`published` and `promised` say what saving a property has done already.

        `unreadable` is how many events reconcile skips.
        """
        self._unreadable = unreadable
        self._done = {"published": published, "confirmation_promised": promised}
        self._failures = failures
        self.calls: list[str] = []

    def attempts(self, name: str) -> int:
        return self.calls.count(name)

    def _happens(self, name: str) -> None:
        self.calls.append(name)
        left = self._failures.get(name, [])
        if left:
            raise left.pop(0)

    @property
    def activities(self) -> list[Callable[..., Any]]:
        script = self

        @activity.defn
        async def save_property(command: CreateProperty) -> PropertySaved:
            script._happens("save_property")
            [event] = recorded(command, command.property_id, 0, decide_property(None, command))
            state = evolve_property(None, event.data, event.version, event.timestamp)
            return PropertySaved(events=(event.saved(),), property=state, **script._done)

        @activity.defn
        async def save_user(command: RegisterUser) -> UserSaved:
            script._happens("save_user")
            [event] = recorded(command, command.user_id, 0, decide_user(None, command))
            return UserSaved(events=(event.saved(),), user=evolve_user(None, event.data, 1, event.timestamp))

        @activity.defn
        async def publish(what: Published) -> int:
            script._happens("publish")
            return 1

        @activity.defn
        async def confirm_property_created(what: Confirmation) -> str:
            script._happens("confirm_property_created")
            return "mailed"

        @activity.defn
        async def send_promised(what: Outgoing) -> str:
            script._happens("send_promised")
            return f"{len(what.event_ids)} mailed"

        @activity.defn
        async def notify_overdue() -> int:
            script._happens("notify_overdue")
            return 3

        @activity.defn
        async def publish_overdue() -> PublishedOverdue:
            script._happens("publish_overdue")
            return PublishedOverdue(published=2, unreadable=script._unreadable)

        @activity.defn
        async def republish_unprojected() -> int:
            script._happens("republish_unprojected")
            return 1

        return [
            save_property,
            save_user,
            publish,
            confirm_property_created,
            send_promised,
            notify_overdue,
            publish_overdue,
            republish_unprojected,
        ]


def away(times: int) -> list[Exception]:
    """A dependency that fails so many times before it is back."""
    return [ApplicationError("nobody answers", type="Away") for _ in range(times)]


def refusal(code: str, field: str | None = None) -> list[Exception]:
    return [ApplicationError("refused by the domain", field, type=code, non_retryable=True)]
