"""The registry of events: for each type its payload model, its topic, and the upcasters of older schema versions."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from pydantic import ValidationError

from domain import ids
from domain.command import Command, SavedEvent
from domain.documents import DocumentAdded, DocumentDeleted, DocumentFact, DocumentRefused, DocumentUploaded
from domain.favorite_commands import FavoriteFact, PropertyFavorited, PropertyUnfavorited
from domain.imports import ImportFact, PropertiesImportFinished, PropertiesImportStarted
from domain.model import Fact
from domain.observations import (
    LoginFailed,
    NotificationsRead,
    ObservedFact,
    PropertySearched,
    PropertyViewed,
    RecordActivity,
    RefreshTokenReused,
    SavedSearchMatched,
    SavedSearchVisited,
    SearchHistoryDeleted,
    UserExported,
    UserLoggedIn,
    UserNotified,
)
from domain.preferences import PreferencesChanged
from domain.property_events import (
    PropertyCreated,
    PropertyDeleted,
    PropertyFact,
    PropertyImageAdded,
    PropertyImageRefused,
    PropertyImageRemoved,
    PropertyImagesArranged,
    PropertyImagesUploaded,
    PropertyPriceChanged,
    PropertyStatusChanged,
    PropertyUpdated,
    WholeProperty,
)
from domain.saved_searches import SavedSearchChanged, SavedSearchCreated, SavedSearchDeleted, SavedSearchFact
from domain.user_events import (
    UserDeleted,
    UserExportRequested,
    UserFact,
    UserPasskeyAdded,
    UserPasskeyRemoved,
    UserPasswordChanged,
    UserPasswordResetRequested,
    UserRegistered,
    UserRoleChanged,
    UserSecondFactorChanged,
    UserStatusChanged,
    UserUpdated,
    UserVerificationExpired,
    UserVerificationRequested,
    UserVerified,
)

PROPERTY_EVENTS = "property-events"
USER_EVENTS = "user-events"
USER_ACTIVITY = "user-activity"
TOPICS = (PROPERTY_EVENTS, USER_EVENTS, USER_ACTIVITY)

AnyFact = (
    PropertyFact
    | FavoriteFact
    | UserFact
    | PreferencesChanged
    | SavedSearchFact
    | DocumentFact
    | ObservedFact
    | ImportFact
)
"""The data of an event of any kind."""

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]


class UnreadableEvent(ValueError):
    """A message or row that cannot be parsed as an event of the registry; a retry would fail too."""


@dataclass(frozen=True)
class EventKind:
    """One type of event: its name, its payload model, its topic, and an upcaster from each older schema version."""

    name: str
    model: type[Fact]
    topic: str
    upcasters: tuple[Upcaster, ...] = ()
    oldest: int = 1
    """The oldest schema version that was ever written; 0 is that of the seven original services."""

    @property
    def schema_version(self) -> int:
        return self.oldest + len(self.upcasters)


class Event(Fact):
    """A stored event. `version` numbers the events of an aggregate from 1; it is 0 for an observation."""

    event_id: UUID
    aggregate_id: UUID
    user_id: UUID
    tenant_id: str
    event_type: str
    timestamp: datetime
    version: int
    schema_version: int
    command_id: UUID
    data: Any
    """An instance of the model that the registry has for `event_type`."""

    @property
    def topic(self) -> str:
        return KINDS[self.event_type].topic

    def saved(self) -> SavedEvent:
        return SavedEvent(
            event_id=self.event_id,
            event_type=self.event_type,
            user_id=self.user_id,
            timestamp=self.timestamp,
        )


def _property_created_from_seven_services(message: dict[str, Any]) -> dict[str, Any]:
    """Version 0 has no tenant, command or version, prices as decimals, and optional description, type and status."""
    data = dict(message["data"])
    data["price"] = round(float(data["price"]))
    data.setdefault("description", data["title"])
    data.setdefault("listingType", "SALE")
    data.setdefault("status", "ACTIVE")
    data.setdefault("ownerId", message["userId"])
    return {"tenantId": "hyderabad", "version": 1, "commandId": message["eventId"], **message, "data": data}


def _user_registered_from_seven_services(message: dict[str, Any]) -> dict[str, Any]:
    data = {"role": "USER", "status": "ACTIVE", "userId": message["userId"], **message["data"]}
    return {"tenantId": "hyderabad", "version": 1, "commandId": message["eventId"], **message, "data": data}


KINDS: dict[str, EventKind] = {
    kind.name: kind
    for kind in (
        EventKind("PROPERTY_CREATED", PropertyCreated, PROPERTY_EVENTS, (_property_created_from_seven_services,), 0),
        EventKind("PROPERTY_UPDATED", PropertyUpdated, PROPERTY_EVENTS),
        EventKind("PROPERTY_PRICE_CHANGED", PropertyPriceChanged, PROPERTY_EVENTS),
        EventKind("PROPERTY_STATUS_CHANGED", PropertyStatusChanged, PROPERTY_EVENTS),
        EventKind("PROPERTY_IMAGES_UPLOADED", PropertyImagesUploaded, PROPERTY_EVENTS),
        EventKind("PROPERTY_IMAGE_ADDED", PropertyImageAdded, PROPERTY_EVENTS),
        EventKind("PROPERTY_IMAGE_REFUSED", PropertyImageRefused, PROPERTY_EVENTS),
        EventKind("PROPERTY_IMAGES_ARRANGED", PropertyImagesArranged, PROPERTY_EVENTS),
        EventKind("PROPERTY_IMAGE_REMOVED", PropertyImageRemoved, PROPERTY_EVENTS),
        EventKind("PROPERTY_DELETED", PropertyDeleted, PROPERTY_EVENTS),
        EventKind("PROPERTY_FAVORITED", PropertyFavorited, PROPERTY_EVENTS),
        EventKind("PROPERTY_UNFAVORITED", PropertyUnfavorited, PROPERTY_EVENTS),
        EventKind("USER_REGISTERED", UserRegistered, USER_EVENTS, (_user_registered_from_seven_services,), 0),
        EventKind("USER_UPDATED", UserUpdated, USER_EVENTS),
        EventKind("USER_VERIFICATION_REQUESTED", UserVerificationRequested, USER_EVENTS),
        EventKind("USER_VERIFIED", UserVerified, USER_EVENTS),
        EventKind("USER_VERIFICATION_EXPIRED", UserVerificationExpired, USER_EVENTS),
        EventKind("USER_PASSWORD_RESET_REQUESTED", UserPasswordResetRequested, USER_EVENTS),
        EventKind("USER_PASSWORD_CHANGED", UserPasswordChanged, USER_EVENTS),
        EventKind("USER_ROLE_CHANGED", UserRoleChanged, USER_EVENTS),
        EventKind("USER_STATUS_CHANGED", UserStatusChanged, USER_EVENTS),
        EventKind("USER_SECOND_FACTOR_CHANGED", UserSecondFactorChanged, USER_EVENTS),
        EventKind("USER_PASSKEY_ADDED", UserPasskeyAdded, USER_EVENTS),
        EventKind("USER_PASSKEY_REMOVED", UserPasskeyRemoved, USER_EVENTS),
        EventKind("USER_EXPORT_REQUESTED", UserExportRequested, USER_EVENTS),
        EventKind("USER_DELETED", UserDeleted, USER_EVENTS),
        EventKind("NOTIFICATION_PREFERENCES_CHANGED", PreferencesChanged, USER_EVENTS),
        EventKind("PROPERTY_VIEWED", PropertyViewed, PROPERTY_EVENTS),
        EventKind("USER_LOGGED_IN", UserLoggedIn, USER_EVENTS),
        EventKind("LOGIN_FAILED", LoginFailed, USER_EVENTS),
        EventKind("REFRESH_TOKEN_REUSED", RefreshTokenReused, USER_EVENTS),
        EventKind("USER_NOTIFIED", UserNotified, USER_EVENTS),
        EventKind("NOTIFICATIONS_READ", NotificationsRead, USER_EVENTS),
        EventKind("PROPERTY_SEARCHED", PropertySearched, USER_EVENTS),
        EventKind("SEARCH_HISTORY_DELETED", SearchHistoryDeleted, USER_EVENTS),
        EventKind("USER_EXPORTED", UserExported, USER_EVENTS),
        EventKind("SAVED_SEARCH_CREATED", SavedSearchCreated, USER_EVENTS),
        EventKind("SAVED_SEARCH_CHANGED", SavedSearchChanged, USER_EVENTS),
        EventKind("SAVED_SEARCH_DELETED", SavedSearchDeleted, USER_EVENTS),
        EventKind("SAVED_SEARCH_MATCHED", SavedSearchMatched, USER_EVENTS),
        EventKind("SAVED_SEARCH_VISITED", SavedSearchVisited, USER_EVENTS),
        EventKind("DOCUMENT_UPLOADED", DocumentUploaded, USER_EVENTS),
        EventKind("DOCUMENT_ADDED", DocumentAdded, USER_EVENTS),
        EventKind("DOCUMENT_REFUSED", DocumentRefused, USER_EVENTS),
        EventKind("DOCUMENT_DELETED", DocumentDeleted, USER_EVENTS),
        EventKind("PROPERTIES_IMPORT_STARTED", PropertiesImportStarted, USER_EVENTS),
        EventKind("PROPERTIES_IMPORT_FINISHED", PropertiesImportFinished, USER_EVENTS),
    )
}
WHOLE_PROPERTY = tuple(kind.name for kind in KINDS.values() if issubclass(kind.model, WholeProperty))
"""The types of events that have the whole state of a listing."""
_KIND_OF: dict[type[Fact], EventKind] = {kind.model: kind for kind in KINDS.values()}


def new_events(command: Command, aggregate_id: UUID, after_version: int, facts: list[Any]) -> list[Event]:
    """The events that `command` appends to an aggregate at `after_version`: `facts` with ids, versions and timestamps.

    Their timestamps are a microsecond apart, because a history is sorted by time.
    """
    return [
        Event(
            event_id=ids.event_id(command.command_id, n),
            aggregate_id=aggregate_id,
            user_id=command.user_id,
            tenant_id=command.tenant_id,
            event_type=_KIND_OF[type(fact)].name,
            timestamp=command.issued_at + timedelta(microseconds=n - 1),
            version=after_version + n,
            schema_version=_KIND_OF[type(fact)].schema_version,
            command_id=command.command_id,
            data=fact,
        )
        for n, fact in enumerate(facts, start=1)
    ]


def observation_events(batch: RecordActivity) -> list[Event]:
    """The events of a batch of observations; they change no aggregate, so their version is 0."""
    return [
        Event(
            event_id=observation.event_id,
            aggregate_id=observation.aggregate_id,
            user_id=observation.user_id,
            tenant_id=batch.tenant_id,
            event_type=observation.event_type,
            timestamp=observation.timestamp,
            version=0,
            schema_version=KINDS[observation.event_type].schema_version,
            command_id=batch.command_id,
            data=observation.data,
        )
        for observation in batch.observations
    ]


def read_event(message: Mapping[str, Any]) -> Event:
    """Parse a stored or published event of any schema version.

    Raises UnreadableEvent. Its text is logged, so it names the invalid fields but no value, which may be personal.
    """
    kind = KINDS.get(str(message.get("eventType")))
    if kind is None:
        raise UnreadableEvent(f"unknown event type {message.get('eventType')!r}")
    at = message.get("schemaVersion", 0)
    if not isinstance(at, int) or not kind.oldest <= at <= kind.schema_version:
        raise UnreadableEvent(
            f"{kind.name} has no schema version {at!r}; this release reads {kind.oldest} to {kind.schema_version}"
        )
    upcast = dict(message)
    try:
        for step in kind.upcasters[at - kind.oldest :]:
            upcast = step(upcast)
        upcast["schemaVersion"] = kind.schema_version
        return Event.model_validate({**upcast, "data": kind.model.model_validate(upcast["data"])})
    except ValidationError as error:
        reasons = [
            f"{'.'.join(map(str, problem['loc'])) or 'data'}: {problem['msg']}"
            for problem in error.errors(include_url=False, include_context=False, include_input=False)
        ]
        raise UnreadableEvent(f"{kind.name} {message.get('eventId')}: {'; '.join(reasons)}") from None
    except KeyError as error:
        raise UnreadableEvent(f"{kind.name} {message.get('eventId')}: {error} is missing") from None
    except (ArithmeticError, AttributeError, TypeError, ValueError) as error:
        # An upcaster met an unexpected value. `from None`: the cause's text may contain a personal value.
        raise UnreadableEvent(
            f"{kind.name} {message.get('eventId')}: {type(error).__name__} in schema version {at}"
        ) from None
