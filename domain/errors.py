"""Refusals: the domain's errors. `code` is the type of the `ApplicationError` that carries one through Temporal."""

from collections.abc import Iterable
from typing import ClassVar


class Refusal(Exception):
    """A valid command that breaks a business rule.

    `detail` tells the sender what to do; `field` names the invalid field of the request, if there is one.
    """

    code: ClassVar[str]
    advice: ClassVar[str]
    """The default `detail`."""

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
    advice = "Your account is suspended or deleted. Contact support."


class UserNotFound(Refusal):
    code = "not-found"
    advice = "There is no account with this id. Check the id."


class PropertyNotFound(Refusal):
    """There is no such listing, or the sender may not see it."""

    code = "not-found"
    advice = "There is no listing with this id that you may see. Check the id."


class NotOwner(Refusal):
    code = "forbidden"
    advice = "Only the owner or an administrator may change this listing."


class NotAdmin(Refusal):
    code = "forbidden"
    advice = "Only an administrator may do this."


class OwnAccount(Refusal):
    code = "forbidden"
    advice = "You cannot change the role or status of your own account. Ask another administrator."


class InvalidToken(Refusal):
    """The token of a link is unknown, was used, or has expired."""

    code = "invalid-link"
    advice = "The link is not valid, was used before, or has expired. Ask for a new one."


class PasskeyNotFound(Refusal):
    code = "not-found"
    advice = "Your account has no passkey with this id. Check the id."


class PasskeyTaken(Refusal):
    code = "passkey-taken"
    advice = "This passkey is registered already. Use another authenticator."


class SecondFactorOn(Refusal):
    code = "second-factor-on"
    advice = "Your account has a second factor. Disable it before you set up another one."


class SecondFactorOff(Refusal):
    code = "second-factor-off"
    advice = "Your account has no second factor. Set one up with POST /api/users/second-factor."


class ExportRunning(Refusal):
    code = "export-running"
    advice = "Your last export is being written. Wait for the mail with its link."


class TooManyImports(Refusal):
    code = "too-many-imports"
    advice = "Three of your imports are not finished. Wait for one, or cancel one with DELETE /api/imports/{id}."


class ImportNotFound(Refusal):
    code = "not-found"
    advice = "You have no import with this id. Check the id."


class VersionConflict(Refusal):
    """The aggregate is at another version than those that the command accepts."""

    code = "version-conflict"
    advice = "Read the resource again and repeat your change with its ETag in If-Match, and with a new Idempotency-Key."


class InvalidChange(Refusal):
    """Each changed field is valid, but the resource would not be."""

    code = "invalid-request"
    advice = "Fix the fields listed in errors and send the request again."


class ListingClosed(Refusal):
    code = "listing-closed"
    advice = "The property is sold or rented. Set its status to ACTIVE first."


class ImageNotFound(Refusal):
    code = "not-found"
    advice = "The listing has no image with this id. Read the listing again."


class TooManyImages(Refusal):
    code = "too-many-images"
    advice = "Remove images of the listing first."

    @classmethod
    def of(cls, present: int, most: int) -> "TooManyImages":
        return cls(f"The listing has {present} images, and may have {most}. Remove some, or send fewer.", "files")


class ListingDeleted(Refusal):
    """A row of an import would list again what was deleted."""

    code = "gone"
    advice = "The listing was deleted. Give the row another externalId to list it again."


class EmailNotVerified(Refusal):
    """The portal shows only listings of owners whose e-mail address is verified."""

    code = "email-not-verified"
    advice = (
        "Verify your e-mail address by the link in your mail, or ask for a new one at POST"
        " /api/auth/resend-verification. Then send the request again, with a new Idempotency-Key. Until then you may"
        " save the listing as a DRAFT."
    )


class StatusRefused(Refusal):
    """The table of transitions has no step from the present status to this one."""

    code = "status-refused"
    advice = "Choose a status that the present status may change to."

    @classmethod
    def after(cls, status: str, possible: Iterable[str]) -> "StatusRefused":
        return cls(f"{status} may change to {', '.join(possible) or 'no other status'}.", "status")


def check_version(expected: tuple[int, ...] | None, version: int) -> None:
    """Raises VersionConflict unless `version` is one of `expected`; None accepts any."""
    if expected is not None and version not in expected:
        raise VersionConflict(f"The resource is at version {version}. {VersionConflict.advice}")
