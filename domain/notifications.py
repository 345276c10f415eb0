"""Who is notified of what: a pure function of the event."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID, uuid5

from domain.events import Event
from domain.imports import PropertiesImportFinished
from domain.observations import SavedSearchMatched, UserExported, UserLoggedIn
from domain.preferences import ACCOUNT_KINDS, Channel, NoticeKind, Preferences, quiet_end
from domain.property_events import PropertyCreated, PropertyPriceChanged, PropertyStatusChanged
from domain.property_status import PropertyStatus
from domain.user_events import (
    UserDeleted,
    UserPasskeyAdded,
    UserPasskeyRemoved,
    UserPasswordChanged,
    UserPasswordResetRequested,
    UserRegistered,
    UserRoleChanged,
    UserSecondFactorChanged,
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
        case UserPasskeyAdded() | UserPasskeyRemoved() | UserSecondFactorChanged() | UserRoleChanged():
            yield Notice(of, NoticeKind.SECURITY_CHANGED, fact.user_id)
        case UserExported():
            yield Notice(of, NoticeKind.EXPORT_READY, fact.user_id)
        case PropertiesImportFinished():
            yield Notice(of, NoticeKind.IMPORT_FINISHED, fact.user_id)
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
        case SavedSearchMatched():
            yield Notice(of, NoticeKind.SAVED_SEARCH_MATCHES, fact.user_id)


@dataclass(frozen=True)
class Reach:
    """How a user can be reached."""

    preferences: Preferences
    may_sign_in: bool
    has_phone: bool
    has_browser: bool
    """Whether a browser of the user is subscribed to messages."""


_ONLY_BY_MAIL = frozenset({NoticeKind.VERIFY_EMAIL, NoticeKind.PASSWORD_RESET, NoticeKind.ACCOUNT_ERASED})
"""Of no use to who is signed in."""
_SECURITY = frozenset({NoticeKind.PASSWORD_CHANGED, NoticeKind.NEW_SIGN_IN, NoticeKind.SECURITY_CHANGED})


def channels_of(kind: NoticeKind, reach: Reach) -> frozenset[Channel]:
    """The channels on which a user gets a notice.

    Those of the account are always mailed. Text messages go to nobody who has not asked for any, because a phone number
    is not verified: those about the account's security, to who has asked for those of some other kind.
    """
    wanted = reach.preferences.channels_of(kind)
    if kind in ACCOUNT_KINDS:
        is_about_security = kind in _SECURITY
        asked = any(channels.sms for channels in reach.preferences.kinds.values())
        by_sms, by_push, in_app = is_about_security and asked, is_about_security, kind not in _ONLY_BY_MAIL
        chosen = {Channel.EMAIL: True, Channel.SMS: by_sms, Channel.PUSH: by_push, Channel.IN_APP: in_app}
    elif reach.may_sign_in:
        chosen = {
            Channel.EMAIL: wanted.email,
            Channel.SMS: wanted.sms,
            Channel.PUSH: wanted.push,
            Channel.IN_APP: wanted.in_app,
        }
    else:
        chosen = {}
    possible = {Channel.SMS: reach.has_phone, Channel.PUSH: reach.has_browser}
    return frozenset(channel for channel, on in chosen.items() if on and possible.get(channel, True))


def held_until(kind: NoticeKind, channel: Channel, preferences: Preferences, now: datetime) -> datetime | None:
    """The end of the quiet hours for which a delivery has to wait; None when it is sent at once."""
    if kind in ACCOUNT_KINDS or channel is Channel.IN_APP:
        return None
    return quiet_end(preferences.quiet_hours, now)


def in_app_id(event_id: UUID, recipient_id: UUID) -> UUID:
    """The id of the USER_NOTIFIED event of an event and its recipient."""
    return uuid5(event_id, f"in-app/{recipient_id}")
