"""Refusals: what the domain says no to. `code` is the name by which a refusal travels through Temporal to the API."""

from typing import ClassVar


class Refusal(Exception):
    """A command that is well formed but must not be done.

    `detail` is for the person who sent the command and says what to do; `field` names the input at fault, if one is.
    """

    code: ClassVar[str]

    def __init__(self, detail: str, field: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.field = field


class EmailTaken(Refusal):
    code = "EmailTaken"


class UsernameTaken(Refusal):
    code = "UsernameTaken"


class OwnerUnknown(Refusal):
    """The user who sent the command has no account, or it is suspended or deleted."""

    code = "OwnerUnknown"


class VersionConflict(Refusal):
    """The aggregate has moved on since the version that the command expected."""

    code = "VersionConflict"


REFUSALS: dict[str, type[Refusal]] = {
    refusal.code: refusal for refusal in (EmailTaken, UsernameTaken, OwnerUnknown, VersionConflict)
}
