"""Activities: the entries of a user's history, each a pure function of one event."""

from datetime import datetime
from typing import Any, assert_never
from uuid import UUID

from domain.documents import DocumentAdded, DocumentDeleted, DocumentRefused, DocumentUploaded
from domain.events import AnyFact, Event
from domain.favorite_commands import FavoriteFact, PropertyFavorited, PropertyUnfavorited
from domain.imports import ImportStatus, PropertiesImportFinished, PropertiesImportStarted
from domain.model import Fact
from domain.observations import (
    ANONYMOUS,
    LoginFailed,
    NotificationsRead,
    PropertySearched,
    PropertyViewed,
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
)
from domain.saved_searches import PausedBy, SavedSearchChanged, SavedSearchCreated, SavedSearchDeleted
from domain.user_events import (
    UserDeleted,
    UserExportRequested,
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


class Activity(Fact):
    """One entry of a user's history and one message of `user-activity`. It holds no personal data."""

    event_id: UUID
    user_id: UUID
    tenant_id: str
    activity_type: str
    description: str
    timestamp: datetime
    activity_data: dict[str, Any]


def activity_of(event: Event) -> Activity | None:
    """The history entry of an event, for the user who caused it; None for a visitor without an account."""
    if event.user_id == ANONYMOUS or isinstance(event.data, NO_ACTIVITY):
        return None
    description, data = _description_and_data(event.data)
    return Activity(
        event_id=event.event_id,
        user_id=event.user_id,
        tenant_id=event.tenant_id,
        activity_type=event.event_type,
        description=description,
        timestamp=event.timestamp,
        activity_data=data,
    )


NO_ACTIVITY = (UserNotified, NotificationsRead, UserVerificationExpired, UserExported, SavedSearchMatched)
"""What happens to an inbox or by itself is nothing that the user did."""


_FINISHED = {
    ImportStatus.COMPLETED: "An import of properties was completed",
    ImportStatus.CANCELLED: "User cancelled an import of properties",
    ImportStatus.FAILED: "An import of properties failed",
}


def _description_and_data(fact: AnyFact) -> tuple[str, dict[str, Any]]:
    match fact:
        case PropertyCreated():
            return f"User created property: {fact.title}", {
                **_property(fact),
                "price": fact.price,
                "propertyType": fact.property_type,
                "listingType": fact.listing_type,
                "status": fact.status,
            }
        case PropertyPriceChanged():
            prices = {"price": fact.price, "previousPrice": fact.previous_price}
            return f"User changed the price of property: {fact.title}", {**_property(fact), **prices}
        case PropertyUpdated():
            return f"User updated property: {fact.title}", {**_property(fact), "changed": list(fact.changed)}
        case PropertyStatusChanged():
            change = {"fromStatus": fact.from_status, "toStatus": fact.to_status, "reason": fact.reason}
            return f"User changed the status of property: {fact.title} ({fact.to_status})", {
                **_property(fact),
                **change,
            }
        case PropertyImagesUploaded():
            ids = [str(each.id) for each in fact.uploaded]
            return f"User added images to property: {fact.title}", {**_property(fact), "imageIds": ids}
        case PropertyImageAdded():
            return f"An image of a property is ready: {fact.title}", {**_property(fact), "imageId": str(fact.image.id)}
        case PropertyImageRefused():
            why = {"imageId": str(fact.image_id), "reason": fact.refused.detail}
            return f"A file for a property was refused: {fact.title}", {**_property(fact), **why}
        case PropertyImagesArranged():
            return f"User arranged the images of property: {fact.title}", _property(fact)
        case PropertyImageRemoved():
            return f"User removed an image of property: {fact.title}", {
                **_property(fact),
                "imageId": str(fact.image_id),
            }
        case PropertyDeleted():
            return f"User deleted property: {fact.title}", _property(fact)
        case PropertyFavorited():
            return f"User added property to favourites: {fact.title}", _property(fact)
        case PropertyUnfavorited():
            return f"User removed property from favourites: {fact.title}", _property(fact)
        case PropertyViewed():
            return f"User viewed property: {fact.title}", _property(fact)
        case PropertySearched():
            return "User searched for properties", {"searchId": str(fact.search_id), "total": fact.total}
        case SearchHistoryDeleted(search_id=None):
            return "User deleted the search history", {}
        case SearchHistoryDeleted():
            return "User deleted a search from the search history", {"searchId": str(fact.search_id)}
        case UserLoggedIn():
            return "User logged in", {"device": fact.device} if fact.device else {}
        case LoginFailed():
            return "Login to the account failed", {"device": fact.device} if fact.device else {}
        case RefreshTokenReused():
            return "A refresh token was used twice, so its session was closed", {"sessionId": str(fact.session_id)}
        case UserRegistered():
            return "User registered", {}
        case UserUpdated():
            return "User's account changed", {"changed": list(fact.changed)}
        case UserVerificationRequested():
            return "A mail to verify the e-mail address was requested", {"reminder": fact.reminder}
        case UserVerified():
            return "User verified their e-mail address", {}
        case UserPasswordResetRequested():
            return "A mail to reset the password was requested", {}
        case UserPasswordChanged():
            return "User reset their password" if fact.was_reset else "User changed their password", {}
        case UserRoleChanged():
            change = {"fromRole": fact.from_role, "toRole": fact.role}
            return f"Role of an account changed to {fact.role}", {"accountId": str(fact.user_id), **change}
        case UserStatusChanged():
            change = {"fromStatus": fact.from_status, "toStatus": fact.status}
            return f"Status of an account changed to {fact.status}", {"accountId": str(fact.user_id), **change}
        case UserSecondFactorChanged(only_recovery_codes=True):
            return "User replaced the recovery codes", {}
        case UserSecondFactorChanged():
            state = "enabled" if fact.second_factor else "disabled"
            return f"User {state} the second factor", {}
        case UserPasskeyAdded():
            return "User added a passkey", {"passkeyId": str(fact.passkey_id)}
        case UserPasskeyRemoved():
            return "User removed a passkey", {"passkeyId": str(fact.passkey_id)}
        case UserExportRequested():
            return "User requested an export of the history and data", {"exportId": str(fact.export_id)}
        case UserDeleted():
            return "User erased their account", {}
        case PreferencesChanged():
            return "User changed their notification preferences", {}
        case SavedSearchCreated():
            return "User saved a search", {"savedSearchId": str(fact.saved_search_id)}
        case SavedSearchChanged(paused=PausedBy.UNREAD):
            return "A saved search was paused because its mails were not read", {
                "savedSearchId": str(fact.saved_search_id)
            }
        case SavedSearchChanged():
            of = str(fact.saved_search_id)
            return "User changed a saved search", {"savedSearchId": of, "paused": fact.paused is not None}
        case SavedSearchDeleted():
            return "User deleted a saved search", {"savedSearchId": str(fact.saved_search_id)}
        case SavedSearchVisited():
            return "User opened a saved search", {"savedSearchId": str(fact.saved_search_id)}
        case DocumentUploaded():
            attached = {"propertyId": str(fact.property_id)} if fact.property_id else {}
            return "User uploaded a document", {"fileId": str(fact.file_id), **attached}
        case DocumentAdded():
            return "A document of the user was checked, and is ready", {"fileId": str(fact.file_id)}
        case DocumentRefused():
            return "A document of the user was refused", {"fileId": str(fact.file_id), "reason": fact.refused.code}
        case DocumentDeleted():
            return "User deleted a document", {"fileId": str(fact.file_id)}
        case PropertiesImportStarted():
            return "User started an import of properties", {"importId": str(fact.import_id)}
        case PropertiesImportFinished():
            counts = {name: getattr(fact, name) for name in ("read", "saved", "updated", "unchanged", "refused")}
            return _FINISHED[fact.status], {
                "importId": str(fact.import_id),
                "status": fact.status,
                "reason": fact.reason,
                **counts,
            }
        case UserNotified() | NotificationsRead() | UserVerificationExpired() | UserExported() | SavedSearchMatched():
            raise AssertionError("no activity")
    assert_never(fact)


def _property(fact: PropertyFact | FavoriteFact | PropertyViewed) -> dict[str, Any]:
    return {"propertyId": str(fact.property_id), "title": fact.title, "location": fact.location}
