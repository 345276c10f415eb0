"""Who is notified of what: a pure function of the event."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from domain.events import Event
from domain.observations import UserLoggedIn
from domain.preferences import NoticeKind
from domain.property_commands import PropertyCreated, PropertyPriceChanged, PropertyStatusChanged
from domain.property_status import PropertyStatus
from domain.user_events import (
    UserDeleted,
    UserPasswordChanged,
    UserPasswordResetRequested,
    UserRegistered,
    UserVerificationRequested,
    UserVerified,
)

_OF_INTEREST = frozenset(
    {
        PropertyStatus.ACTIVE,
        PropertyStatus.UNDER_OFFER,
        PropertyStatus.SOLD,
        PropertyStatus.RENTED,
        PropertyStatus.WITHDRAWN,
    }
)
"""Statuses of which those who have a listing as favourite are notified."""


class Audience(StrEnum):
    """Whom a notice is for."""

    USER = "user"
    FAVORITES = "favorites"
    """Everyone who has the listing as favourite, except the user who caused the event."""


@dataclass(frozen=True)
class Notice:
    """One kind of notice because of an event."""

    event_id: UUID
    kind: NoticeKind
    audience_id: UUID
    """The user, or the listing whose favourites they are."""
    audience: Audience = Audience.USER


def notices_of(event: Event) -> list[Notice]:
    """The notices that an event causes."""
    return list(_notices(event))


def _notices(event: Event) -> Iterator[Notice]:
    fact, of = event.data, event.event_id
    match fact:
        case UserRegistered() | UserVerificationRequested():
            yield Notice(of, NoticeKind.VERIFY_EMAIL, fact.user_id)
        case UserVerified():
            yield Notice(of, NoticeKind.WELCOME, fact.user_id)
        case UserPasswordResetRequested():
            yield Notice(of, NoticeKind.PASSWORD_RESET, fact.user_id)
        case UserPasswordChanged():
            yield Notice(of, NoticeKind.PASSWORD_CHANGED, fact.user_id)
        case UserLoggedIn(new_device=True):
            yield Notice(of, NoticeKind.NEW_SIGN_IN, fact.user_id)
        case UserDeleted():
            yield Notice(of, NoticeKind.ACCOUNT_ERASED, fact.user_id)
        case PropertyCreated(status=PropertyStatus.ACTIVE):
            yield Notice(of, NoticeKind.LISTING_CONFIRMED, fact.owner_id)
        case PropertyStatusChanged(from_status=PropertyStatus.DRAFT, to_status=PropertyStatus.ACTIVE):
            yield Notice(of, NoticeKind.LISTING_CONFIRMED, fact.owner_id)
        case PropertyStatusChanged():
            if event.user_id != fact.owner_id:
                yield Notice(of, NoticeKind.STATUS_CHANGED, fact.owner_id)
            if fact.to_status in _OF_INTEREST:
                yield Notice(of, NoticeKind.STATUS_CHANGED, fact.property_id, Audience.FAVORITES)
        case PropertyPriceChanged(status=PropertyStatus.ACTIVE) if (
            fact.previous_price is not None and fact.price < fact.previous_price
        ):
            yield Notice(of, NoticeKind.PRICE_DROPPED, fact.property_id, Audience.FAVORITES)


PROPERTY_LISTED = "property-listed"
_MAILED = frozenset(
    {
        NoticeKind.VERIFY_EMAIL,
        NoticeKind.WELCOME,
        NoticeKind.PASSWORD_RESET,
        NoticeKind.PASSWORD_CHANGED,
        NoticeKind.ACCOUNT_ERASED,
    }
)
"""The kinds whose template is the kind itself. Of the others, only a confirmed listing has a mail."""


@dataclass(frozen=True)
class Delivery:
    """A mail to send because of an event: its template, its recipient, and the aggregate that it is about."""

    event_id: UUID
    template: str
    recipient_id: UUID
    about_id: UUID


def deliveries_of(event: Event) -> list[Delivery]:
    """The deliveries that an event causes."""
    return list(_deliveries(event))


def _deliveries(event: Event) -> Iterator[Delivery]:
    for notice in notices_of(event):
        if notice.kind is NoticeKind.LISTING_CONFIRMED:
            yield Delivery(event.event_id, PROPERTY_LISTED, notice.audience_id, about_id=event.data.property_id)
        elif notice.kind in _MAILED:
            yield Delivery(event.event_id, notice.kind.value, notice.audience_id, about_id=notice.audience_id)
