"""A user's preferences of notices: the commands and events, with `decide` and `evolve`."""

import re
from datetime import UTC, datetime, time, timedelta
from enum import StrEnum
from typing import Annotated, Any, Literal, Self
from uuid import NAMESPACE_URL, UUID, uuid5

from pydantic import BeforeValidator, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from domain.command import Actor, Change
from domain.errors import check_version
from domain.india import INDIA
from domain.model import Fact, Model

_PREFERENCES = uuid5(NAMESPACE_URL, "urn:hyderabad-infra:notification-preferences")


class NoticeKind(StrEnum):
    """The kinds of notices. Those of the account are sent by e-mail whatever the preferences are."""

    VERIFY_EMAIL = "VERIFY_EMAIL"
    WELCOME = "WELCOME"
    PASSWORD_RESET = "PASSWORD_RESET"
    PASSWORD_CHANGED = "PASSWORD_CHANGED"
    NEW_SIGN_IN = "NEW_SIGN_IN"
    SECURITY_CHANGED = "SECURITY_CHANGED"
    ACCOUNT_ERASED = "ACCOUNT_ERASED"
    EXPORT_READY = "EXPORT_READY"
    IMPORT_FINISHED = "IMPORT_FINISHED"
    LISTING_CONFIRMED = "LISTING_CONFIRMED"
    STATUS_CHANGED = "STATUS_CHANGED"
    PRICE_DROPPED = "PRICE_DROPPED"
    SAVED_SEARCH_MATCHES = "SAVED_SEARCH_MATCHES"


ACCOUNT_KINDS = frozenset(
    {
        NoticeKind.VERIFY_EMAIL,
        NoticeKind.WELCOME,
        NoticeKind.PASSWORD_RESET,
        NoticeKind.PASSWORD_CHANGED,
        NoticeKind.NEW_SIGN_IN,
        NoticeKind.SECURITY_CHANGED,
        NoticeKind.ACCOUNT_ERASED,
        NoticeKind.EXPORT_READY,
        NoticeKind.IMPORT_FINISHED,
    }
)
"""Exempt from preferences, quiet hours and unsubscribing, because an account's owner must get them."""
OPTIONAL_KINDS = tuple(kind for kind in NoticeKind if kind not in ACCOUNT_KINDS)
OptionalKind = Literal[
    NoticeKind.LISTING_CONFIRMED,
    NoticeKind.STATUS_CHANGED,
    NoticeKind.PRICE_DROPPED,
    NoticeKind.SAVED_SEARCH_MATCHES,
]


def _optional(kind: Any) -> Any:
    if kind in ACCOUNT_KINDS:
        raise PydanticCustomError("account_kind", "Remove this kind: notices about the account are always sent.")
    return kind


class Channel(StrEnum):
    EMAIL = "email"
    SMS = "sms"
    PUSH = "push"
    IN_APP = "in-app"


_Switch = Annotated[bool, Field(strict=True)]


class Channels(Model):
    """The channels of one kind of notice."""

    email: _Switch = True
    sms: _Switch = False
    push: _Switch = True
    in_app: _Switch = True


class _HoursAndMinutes:
    """Annotation: a time of day without seconds, in JSON `"22:00"`."""

    _FORM = re.compile(r"^(?:[01][0-9]|2[0-3]):[0-5][0-9]$")

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        written = core_schema.plain_serializer_function_ser_schema(lambda value: f"{value:%H:%M}", when_used="json")
        # The form is of the inner schema, which a Fact keeps.
        return core_schema.no_info_before_validator_function(self._read, core_schema.time_schema(serialization=written))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "string", "pattern": self._FORM.pattern}

    @classmethod
    def _read(cls, value: Any) -> Any:
        if isinstance(value, time) or (isinstance(value, str) and cls._FORM.fullmatch(value)):
            return value
        raise PydanticCustomError("time_of_day", "Give hours and minutes, such as 22:00.")


TimeOfDay = Annotated[time, _HoursAndMinutes()]


class QuietHours(Model):
    """A time of each day, in Asia/Kolkata, in which nothing is sent. It may contain midnight."""

    from_: TimeOfDay = Field(alias="from")
    to: TimeOfDay

    @model_validator(mode="after")
    def _check_length(self) -> Self:
        if self.from_ == self.to:
            raise PydanticCustomError("no_length", "Give two different times, or null for no quiet hours.")
        return self


class NewPreferences(Model):
    """The preferences as their owner sends them. A kind that is absent has the defaults."""

    kinds: dict[Annotated[OptionalKind, BeforeValidator(_optional)], Channels] = Field(default_factory=dict)
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
    """Send no more e-mails of these kinds; by the link in such a mail. A digest may have several kinds."""

    type: Literal["unsubscribe"] = "unsubscribe"
    kinds: tuple[OptionalKind, ...]

    @property
    def aggregate_id(self) -> UUID:
        return preferences_id(self.user_id)


PreferencesCommand = Annotated[SetPreferences | Unsubscribe, Field(discriminator="type")]


class PreferencesChanged(Fact):
    """NOTIFICATION_PREFERENCES_CHANGED: the whole preferences after the change."""

    user_id: UUID
    kinds: dict[str, Channels]
    quiet_hours: QuietHours | None = None


def quiet_end(quiet_hours: QuietHours | None, now: datetime) -> datetime | None:
    """The end of the quiet hours that contain `now`, in UTC; None when none do. `to` itself is not quiet."""
    if quiet_hours is None:
        return None
    there, begin, end = now.astimezone(INDIA), quiet_hours.from_, quiet_hours.to
    at = there.time()
    quiet = begin <= at < end if begin < end else at >= begin or at < end
    if not quiet:
        return None
    day = there.date() if at < end else there.date() + timedelta(days=1)
    return datetime.combine(day, end, INDIA).astimezone(UTC)


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
        case Unsubscribe():
            off = {kind: known.channels_of(kind).model_copy(update={"email": False}) for kind in command.kinds}
            kinds = {**kinds, **{kind.value: channels for kind, channels in off.items()}}
    if (kinds, quiet) == (known.kinds, known.quiet_hours):
        return []
    return [PreferencesChanged(user_id=command.user_id, kinds=kinds, quiet_hours=quiet)]


def evolve(state: Preferences | None, fact: PreferencesChanged, version: int, at: datetime) -> Preferences:
    """The state after an event, which contains the whole state."""
    return Preferences(**dict(fact), version=version)
