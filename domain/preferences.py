"""A user's preferences of notices: the commands and events, with `decide` and `evolve`."""

from datetime import datetime, time
from enum import StrEnum
from typing import Annotated, Literal, Self
from uuid import NAMESPACE_URL, UUID, uuid5

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from domain.command import Actor, Change
from domain.errors import check_version
from domain.model import Fact, Model

_PREFERENCES = uuid5(NAMESPACE_URL, "urn:hyderabad-infra:notification-preferences")


class NoticeKind(StrEnum):
    """The kinds of notices. Those of the account are sent by e-mail whatever the preferences are."""

    VERIFY_EMAIL = "VERIFY_EMAIL"
    WELCOME = "WELCOME"
    PASSWORD_RESET = "PASSWORD_RESET"
    PASSWORD_CHANGED = "PASSWORD_CHANGED"
    NEW_SIGN_IN = "NEW_SIGN_IN"
    ACCOUNT_ERASED = "ACCOUNT_ERASED"
    LISTING_CONFIRMED = "LISTING_CONFIRMED"
    STATUS_CHANGED = "STATUS_CHANGED"
    PRICE_DROPPED = "PRICE_DROPPED"


ACCOUNT_KINDS = frozenset(
    {
        NoticeKind.VERIFY_EMAIL,
        NoticeKind.WELCOME,
        NoticeKind.PASSWORD_RESET,
        NoticeKind.PASSWORD_CHANGED,
        NoticeKind.NEW_SIGN_IN,
        NoticeKind.ACCOUNT_ERASED,
    }
)
"""Exempt from preferences, quiet hours and unsubscribing, because an account's owner must get them."""
OPTIONAL_KINDS = tuple(kind for kind in NoticeKind if kind not in ACCOUNT_KINDS)
OptionalKind = Literal[NoticeKind.LISTING_CONFIRMED, NoticeKind.STATUS_CHANGED, NoticeKind.PRICE_DROPPED]


class Channel(StrEnum):
    EMAIL = "email"
    SMS = "sms"
    PUSH = "push"
    IN_APP = "in-app"


class Channels(Model):
    """The channels of one kind of notice."""

    email: bool = True
    sms: bool = False
    push: bool = True
    in_app: bool = True


class QuietHours(Model):
    """A time of each day, in Asia/Kolkata, in which nothing is sent. It may contain midnight."""

    from_: time = Field(alias="from")
    to: time

    @model_validator(mode="after")
    def _check_length(self) -> Self:
        if self.from_ == self.to:
            raise PydanticCustomError("no_length", "Give two different times, or null for no quiet hours.")
        return self


class NewPreferences(Model):
    """The preferences as their owner sends them. A kind that is absent has the defaults."""

    kinds: dict[OptionalKind, Channels] = Field(default_factory=dict)
    quiet_hours: QuietHours | None = None


class Preferences(Fact):
    """The preferences of a user. Version 0: the user has never set any."""

    user_id: UUID
    version: int = 0
    kinds: dict[str, Channels] = Field(default_factory=dict)
    quiet_hours: QuietHours | None = None

    def channels_of(self, kind: NoticeKind) -> Channels:
        return self.kinds.get(kind.value) or Channels()


class SetPreferences(Change):
    """Replace the preferences of the user who sends the command."""

    type: Literal["set-preferences"] = "set-preferences"
    preferences: NewPreferences

    @property
    def aggregate_id(self) -> UUID:
        return preferences_id(self.user_id)


class Unsubscribe(Change):
    """Send no more e-mails of one kind; by the link in such a mail."""

    type: Literal["unsubscribe"] = "unsubscribe"
    kind: OptionalKind

    @property
    def aggregate_id(self) -> UUID:
        return preferences_id(self.user_id)


PreferencesCommand = Annotated[SetPreferences | Unsubscribe, Field(discriminator="type")]


class PreferencesChanged(Fact):
    """NOTIFICATION_PREFERENCES_CHANGED: the whole preferences after the change."""

    user_id: UUID
    kinds: dict[str, Channels]
    quiet_hours: QuietHours | None = None


def preferences_id(user_id: UUID) -> UUID:
    """The id of the aggregate that holds a user's preferences."""
    return uuid5(_PREFERENCES, str(user_id))


def decide(state: Preferences | None, command: PreferencesCommand, by: Actor | None) -> list[PreferencesChanged]:
    """The events that `command` causes; empty when it changes nothing. Raises VersionConflict."""
    known = state or Preferences(user_id=command.user_id)
    check_version(command.expected_versions, known.version)
    kinds, quiet = known.kinds, known.quiet_hours
    match command:
        case SetPreferences(preferences=wanted):
            kinds, quiet = {kind.value: channels for kind, channels in wanted.kinds.items()}, wanted.quiet_hours
        case Unsubscribe(kind=kind):
            kinds = {**kinds, kind.value: known.channels_of(kind).model_copy(update={"email": False})}
    if (kinds, quiet) == (known.kinds, known.quiet_hours):
        return []
    return [PreferencesChanged(user_id=command.user_id, kinds=kinds, quiet_hours=quiet)]


def evolve(state: Preferences | None, fact: PreferencesChanged, version: int, at: datetime) -> Preferences:
    """The state after an event, which contains the whole state."""
    return Preferences(**dict(fact), version=version)
