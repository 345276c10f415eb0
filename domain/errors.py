"""Refusals: what the domain says no to. `code` is the name by which a refusal travels through Temporal to the API."""

from collections.abc import Iterable
from typing import ClassVar


class Refusal(Exception):
    """A command that is well formed but must not be done.

    `detail` is for the person who sent the command and says what to do; `field` names the input at fault, if one is.
    """

    code: ClassVar[str]
    advice: ClassVar[str]
    """The detail where a refusal has nothing of its own to say."""

    def __init__(self, detail: str | None = None, field: str | None = None) -> None:
        super().__init__(detail or self.advice)
        self.detail = detail or self.advice
        self.field = field


class EmailTaken(Refusal):
    code = "email-taken"
    advice = "An account with this e-mail address exists. Sign in instead."


class UsernameTaken(Refusal):
    code = "username-taken"
    advice = "This username is taken. Choose another."


class AccountClosed(Refusal):
    """The user who sent the command has no account, or it is suspended or deleted."""

    code = "account-closed"
    advice = "Your account is suspended or deleted. Ask support."


class UserNotFound(Refusal):
    code = "not-found"
    advice = "There is no such account."


class PropertyNotFound(Refusal):
    """There is no such listing, or the sender may not know of it."""

    code = "not-found"
    advice = "There is no such listing. Check the address; it may exist and not be yours."


class NotOwner(Refusal):
    code = "forbidden"
    advice = "Only its owner or an administrator may change this listing."


class NotAdmin(Refusal):
    code = "forbidden"
    advice = "Only an administrator may do this."


class VersionConflict(Refusal):
    """The aggregate has moved on since the version that the command expected."""

    code = "version-conflict"
    advice = "Read it again and repeat your change with the new ETag in If-Match."


class InvalidChange(Refusal):
    """The changes are well formed, but what they make is not."""

    code = "invalid-request"
    advice = "Fix the fields listed in errors and send the request again."


class ListingClosed(Refusal):
    code = "listing-closed"
    advice = "The property is sold or rented. Set its status to ACTIVE first."


class StatusRefused(Refusal):
    """The status may not follow the present one."""

    code = "status-refused"
    advice = "Choose a status that may follow."

    @classmethod
    def after(cls, status: str, possible: Iterable[str]) -> "StatusRefused":
        return cls(f"After {status} may follow: {', '.join(possible) or 'nothing'}.", "status")


def check_version(expected: tuple[int, ...] | None, version: int) -> None:
    """Raises VersionConflict when the sender has seen other versions; None accepts any."""
    if expected is not None and version not in expected:
        raise VersionConflict(f"It is at version {version} by now. {VersionConflict.advice}")
