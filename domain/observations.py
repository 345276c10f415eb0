"""Observations: high-volume events that change no aggregate, and the batches in which they are saved."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field

from domain import fields as f
from domain.model import Fact

ANONYMOUS = UUID(int=0)
"""The user id of an observation without an account: the nil UUID (RFC 9562, section 5.9)."""


class PropertyViewed(Fact):
    """PROPERTY_VIEWED: a listing was viewed. The viewer is known by the event's user id only."""

    property_id: UUID
    owner_id: UUID
    title: f.Title
    location: f.Place


class UserLoggedIn(Fact):
    """USER_LOGGED_IN: a user has signed in."""

    user_id: UUID
    device: str | None = None
    """Browser and operating system, such as `Chrome on Windows`; None when they are not known."""
    new_device: bool = False
    """Whether the user has signed in before, but never with such a device."""
    session_id: UUID | None = None
    """The session that was opened; None in events of releases that did not keep it."""


class LoginFailed(Fact):
    """LOGIN_FAILED: somebody has tried to sign in to the account, with a wrong password or code, or without a code."""

    user_id: UUID
    device: str | None = None


class RefreshTokenReused(Fact):
    """REFRESH_TOKEN_REUSED: a refresh token was used a second time, so its session was closed."""

    user_id: UUID
    session_id: UUID


class UserNotified(Fact):
    """USER_NOTIFIED: a notice was put into the user's inbox. The texts are rendered when it is read."""

    user_id: UUID
    kind: str
    """A NoticeKind of the release that wrote it."""
    about_event_id: UUID
    property_id: UUID | None = None
    saved_search_id: UUID | None = None
    values: dict[str, Any] = Field(default_factory=dict)
    """The values of the kind's template, none of them personal."""


class NotificationsRead(Fact):
    """NOTIFICATIONS_READ: a user has read one notification, or all up to a time."""

    user_id: UUID
    notification_id: UUID | None = None
    up_to: datetime | None = None


class PropertySearched(Fact):
    """PROPERTY_SEARCHED: a user has searched for listings. The searcher is known by the event's user id only."""

    search_id: UUID
    """The same for the same search of the same user (`Keyring.search_id`)."""
    query: Annotated[str | f.Sealed, f.PERSONAL]
    """What was asked, as JSON (`domain/search_history.py`). All of it is personal: a text may name somebody, and a
    point or a drawn area may be where they live.
    """
    total: int | None = None
    """How many listings matched, or at least so many."""


class SearchHistoryDeleted(Fact):
    """SEARCH_HISTORY_DELETED: a user has deleted one of their searches, or all up to a time."""

    user_id: UUID
    search_id: UUID | None = None
    """None deletes all."""
    up_to: datetime
    """The same search made later is remembered again."""


class UserExported(Fact):
    """USER_EXPORTED: the file with a user's history and data is written, and its link is to be mailed."""

    user_id: UUID
    export_id: UUID
    expires_at: datetime
    """When the link ends, and the file is deleted."""


class MatchReason(StrEnum):
    """Why a saved search reports a listing."""

    NEW = "NEW"
    CHEAPER = "CHEAPER"
    BACK = "BACK"
    """Back on the market."""


class MatchedListing(Fact):
    """A listing that a saved search reports."""

    property_id: UUID
    version: int
    because: MatchReason
    title: f.Title
    location: f.Place
    price: f.Rupees
    previous_price: f.Rupees | None = None
    """The higher price that is known of it; only when it is cheaper."""


class SavedSearchMatched(Fact):
    """SAVED_SEARCH_MATCHED: a round of a saved search has found listings to report to its owner."""

    saved_search_id: UUID
    user_id: UUID
    total: int
    listings: tuple[MatchedListing, ...]
    """The newest of them."""
    unread: int = 0
    """How many mails of the saved search in a row were not read before."""


class SavedSearchVisited(Fact):
    """SAVED_SEARCH_VISITED: its owner has opened a saved search."""

    saved_search_id: UUID
    user_id: UUID


ObservedFact = (
    PropertyViewed
    | UserLoggedIn
    | LoginFailed
    | RefreshTokenReused
    | UserNotified
    | NotificationsRead
    | PropertySearched
    | SearchHistoryDeleted
    | UserExported
    | SavedSearchMatched
    | SavedSearchVisited
)


class _Observed(Fact):
    """One event to store. A repetition has the same event id and is stored once."""

    event_id: UUID
    aggregate_id: UUID
    """The listing that was viewed, the saved search, or the account."""
    user_id: UUID
    """The user who caused it; ANONYMOUS for a visitor without an account."""
    timestamp: datetime


class View(_Observed):
    """A view of a listing."""

    event_type: Literal["PROPERTY_VIEWED"] = "PROPERTY_VIEWED"
    data: PropertyViewed


class Login(_Observed):
    """A login of a user."""

    event_type: Literal["USER_LOGGED_IN"] = "USER_LOGGED_IN"
    data: UserLoggedIn


class FailedLogin(_Observed):
    """A failed login to an account."""

    event_type: Literal["LOGIN_FAILED"] = "LOGIN_FAILED"
    data: LoginFailed


class ReusedToken(_Observed):
    """A second use of a refresh token."""

    event_type: Literal["REFRESH_TOKEN_REUSED"] = "REFRESH_TOKEN_REUSED"
    data: RefreshTokenReused


class Notified(_Observed):
    """A notice in a user's inbox."""

    event_type: Literal["USER_NOTIFIED"] = "USER_NOTIFIED"
    data: UserNotified


class Read(_Observed):
    """Notifications that a user has read."""

    event_type: Literal["NOTIFICATIONS_READ"] = "NOTIFICATIONS_READ"
    data: NotificationsRead


class Search(_Observed):
    """A search of a user."""

    event_type: Literal["PROPERTY_SEARCHED"] = "PROPERTY_SEARCHED"
    data: PropertySearched


class DeletedSearches(_Observed):
    """Searches that a user has deleted."""

    event_type: Literal["SEARCH_HISTORY_DELETED"] = "SEARCH_HISTORY_DELETED"
    data: SearchHistoryDeleted


class Exported(_Observed):
    """A file with a user's history and data."""

    event_type: Literal["USER_EXPORTED"] = "USER_EXPORTED"
    data: UserExported


class Matched(_Observed):
    """A round of a saved search that has found listings to report."""

    event_type: Literal["SAVED_SEARCH_MATCHED"] = "SAVED_SEARCH_MATCHED"
    data: SavedSearchMatched


class Visit(_Observed):
    """A visit of a saved search by its owner."""

    event_type: Literal["SAVED_SEARCH_VISITED"] = "SAVED_SEARCH_VISITED"
    data: SavedSearchVisited


# Discriminated by event type: the models ignore unknown fields, so one would be read as the other.
Observation = Annotated[
    View | Login | FailedLogin | ReusedToken | Notified | Read | Search | DeletedSearches | Exported | Matched | Visit,
    Field(discriminator="event_type"),
]


class RecordActivity(Fact):
    """The input of one `record-activity` workflow: a batch of observations of one tenant."""

    command_id: UUID
    tenant_id: str
    observations: tuple[Observation, ...]


class RecordedActivity(Fact):
    """A reference to a saved batch of observations; its data is in the event store only."""

    tenant_id: str
    command_id: UUID
