"""Commands and listings to test with."""

import os
import time
from collections import Counter
from collections.abc import Callable, Container
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID, uuid4, uuid5

from domain import ids
from domain.command import Command, SealedCommand
from domain.documents import DocumentAdded, DocumentDeleted, DocumentRefusal, DocumentRefused, DocumentUploaded
from domain.events import KINDS, Event
from domain.favorite_commands import PropertyFavorited, PropertyUnfavorited
from domain.images import ImageFormat, ImageRefusal, ImageVariant, ListedImage, Picture
from domain.imports import ImportStatus, PropertiesImportFinished, PropertiesImportStarted
from domain.model import Fact
from domain.observations import (
    ANONYMOUS,
    Login,
    LoginFailed,
    MatchedListing,
    MatchReason,
    NotificationsRead,
    Observation,
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
    View,
)
from domain.preferences import Channels, PreferencesChanged, preferences_id
from domain.property import PropertyDetails
from domain.property_commands import CreateProperty, Sender
from domain.property_events import (
    PropertyCreated,
    PropertyDeleted,
    PropertyImageAdded,
    PropertyImageRefused,
    PropertyImageRemoved,
    PropertyImagesArranged,
    PropertyImagesUploaded,
    PropertyPriceChanged,
    PropertyStatusChanged,
    PropertyUpdated,
)
from domain.property_status import PropertyStatus
from domain.roles import UserRole
from domain.saved_searches import SavedSearchChanged, SavedSearchCreated, SavedSearchDeleted
from domain.user import UserStatus
from domain.user_commands import Account, RegisterUser
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


def new_tenant() -> str:
    return f"t-{uuid4().hex[:16]}"


def new_id() -> UUID:
    return ids.uuid7(time.time_ns() // 1_000_000, os.urandom(10))


def listing(**more: Any) -> dict[str, Any]:
    """A listing as a client sends it."""
    return {
        "title": "3BHK Apartment in Gachibowli",
        "description": "A bright flat near the lake, with a view.",
        "price": 8_500_000,
        "location": "Gachibowli",
        "propertyType": "APARTMENT",
        "listingType": "SALE",
        **more,
    }


def create_property(tenant: str, owner: UUID, **more: Any) -> CreateProperty:
    return CreateProperty(
        command_id=new_id(),
        tenant_id=tenant,
        user_id=owner,
        issued_at=datetime.now(UTC),
        property_id=new_id(),
        details=PropertyDetails.model_validate(listing(**more)),
    )


def register_user(tenant: str, **more: Any) -> RegisterUser:
    name = f"u{uuid4().hex[:12]}"
    person = {"username": name, "email": f"{name}@example.com", "firstName": "Ravi", "lastName": "Kumar", **more}
    return RegisterUser(
        command_id=new_id(),
        tenant_id=tenant,
        user_id=new_id(),
        issued_at=datetime.now(UTC),
        account=Account.model_validate(person),
        password_hash="$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHQ$aGFzaA",
    )


def view(property_id: UUID, user_id: UUID = ANONYMOUS) -> View:
    """A view of somebody else's listing."""
    return View(
        event_id=new_id(),
        aggregate_id=property_id,
        user_id=user_id,
        timestamp=datetime.now(UTC),
        data=PropertyViewed(property_id=property_id, owner_id=new_id(), title="A flat by the lake", location="Uppal"),
    )


def login(user_id: UUID) -> Login:
    return Login(
        event_id=new_id(),
        aggregate_id=user_id,
        user_id=user_id,
        timestamp=datetime.now(UTC),
        data=UserLoggedIn(user_id=user_id),
    )


def record_activity(tenant: str, *observations: Observation) -> RecordActivity:
    return RecordActivity(command_id=new_id(), tenant_id=tenant, observations=observations)


def actor(user_id: UUID, role: UserRole = UserRole.USER) -> Sender:
    return Sender(user_id=user_id, role=role)


def sent(command: Command) -> SealedCommand:
    """A command as it passes through Temporal, with nothing sealed."""
    return command.model_dump(mode="json", by_alias=True)


def _listed(user: UUID, property_id: UUID) -> dict[str, Any]:
    return {**listing(), "propertyId": property_id, "ownerId": user, "status": PropertyStatus.ACTIVE}


def picture(key: str = "ab" * 32) -> Picture:
    """What is made of a file: three widths in two formats, and a JPEG."""
    sizes = [(width, format) for width in (320, 640, 1280) for format in (ImageFormat.AVIF, ImageFormat.WEBP)]
    variants = tuple(
        ImageVariant(width=width, height=width // 2, format=format, bytes=99)
        for width, format in (*sizes, (640, ImageFormat.JPEG))
    )
    return Picture(key=key, width=2560, height=1280, thumbhash="AAA=", perceptual_hash=-5, variants=variants)


def _image(of: UUID) -> ListedImage:
    shown = {name: value for name, value in picture() if name != "perceptual_hash"}
    return ListedImage(id=uuid5(of, "image"), **shown, is_primary=True)


def _called(user: UUID, property_id: UUID) -> dict[str, Any]:
    return {"propertyId": property_id, "ownerId": user, "title": "A flat by the lake", "location": "Uppal"}


def _search_id(of: UUID) -> UUID:
    return uuid5(of, "saved-search")


def _import_id(of: UUID) -> UUID:
    return uuid5(of, "import")


def _saved_search(user: UUID, of: UUID) -> dict[str, Any]:
    filters = '{"bedrooms":["2"],"location":["Kondapur"]}'
    return {
        "saved_search_id": _search_id(of),
        "user_id": user,
        "name": "Flats in Kondapur",
        "filters": filters,
        "since": datetime(2026, 11, 30, tzinfo=UTC),
    }


def _document(user: UUID, of: UUID) -> dict[str, Any]:
    return {"file_id": uuid5(of, "document"), "owner_id": user, "property_id": of, "upload_id": of, "size": 5}


def _account(user: UUID) -> dict[str, Any]:
    person = {"username": f"u{user.hex}", "email": f"u{user.hex}@example.com", "firstName": "Ravi", "lastName": "Kumar"}
    return {**person, "userId": user, "role": UserRole.USER, "status": UserStatus.ACTIVE}


_FACTS: dict[str, Callable[[UUID, UUID], Fact]] = {
    "PROPERTY_CREATED": lambda user, of: PropertyCreated(**_listed(user, of)),
    "PROPERTY_UPDATED": lambda user, of: PropertyUpdated(**_listed(user, of), changed=("bedrooms",)),
    "PROPERTY_PRICE_CHANGED": lambda user, of: PropertyPriceChanged(**_listed(user, of), previous_price=9_000_000),
    "PROPERTY_STATUS_CHANGED": lambda user, of: PropertyStatusChanged(
        **_listed(user, of), from_status=PropertyStatus.PAUSED, to_status=PropertyStatus.ACTIVE
    ),
    "PROPERTY_IMAGES_UPLOADED": lambda user, of: PropertyImagesUploaded(
        **_listed(user, of),
        added_by=of,
        uploaded=[{"id": uuid5(of, part), "uploadId": of, "size": 5} for part in ("image", "other image")],
    ),
    "PROPERTY_IMAGE_ADDED": lambda user, of: PropertyImageAdded(
        **_listed(user, of), images=(_image(of),), image=_image(of), perceptual_hash=-5
    ),
    "PROPERTY_IMAGE_REFUSED": lambda user, of: PropertyImageRefused(
        **_listed(user, of),
        image_id=uuid5(of, "other image"),
        refused=ImageRefusal(code="truncated", detail="The file ends too early. Send it again."),
    ),
    "PROPERTY_IMAGES_ARRANGED": lambda user, of: PropertyImagesArranged(
        **_listed(user, of), order=(uuid5(of, "image"),), captions={uuid5(of, "image"): "The garden"}, primary_id=None
    ),
    "PROPERTY_IMAGE_REMOVED": lambda user, of: PropertyImageRemoved(
        **_listed(user, of), image_id=uuid5(of, "other image")
    ),
    "PROPERTY_DELETED": lambda user, of: PropertyDeleted(**_called(user, of)),
    "PROPERTY_FAVORITED": lambda user, of: PropertyFavorited(**_called(user, of), user_id=user),
    "PROPERTY_UNFAVORITED": lambda user, of: PropertyUnfavorited(**_called(user, of), user_id=user),
    "USER_REGISTERED": lambda user, _: UserRegistered(**_account(user)),
    "USER_UPDATED": lambda user, _: UserUpdated(**_account(user), changed=("role",)),
    "USER_VERIFICATION_REQUESTED": lambda user, _: UserVerificationRequested(**_account(user), reminder=1),
    "USER_VERIFIED": lambda user, _: UserVerified(**_account(user) | {"emailVerified": True}),
    "USER_VERIFICATION_EXPIRED": lambda user, _: UserVerificationExpired(**_account(user)),
    "USER_PASSWORD_RESET_REQUESTED": lambda user, _: UserPasswordResetRequested(**_account(user)),
    "USER_PASSWORD_CHANGED": lambda user, _: UserPasswordChanged(**_account(user), was_reset=True),
    "USER_ROLE_CHANGED": lambda user, _: UserRoleChanged(**_account(user), from_role=UserRole.AGENT),
    "USER_STATUS_CHANGED": lambda user, _: UserStatusChanged(**_account(user), from_status=UserStatus.SUSPENDED),
    "USER_SECOND_FACTOR_CHANGED": lambda user, _: UserSecondFactorChanged(**_account(user) | {"secondFactor": True}),
    "USER_PASSKEY_ADDED": lambda user, of: UserPasskeyAdded(**_account(user), passkey_id=of, name="Phone"),
    "USER_PASSKEY_REMOVED": lambda user, of: UserPasskeyRemoved(**_account(user), passkey_id=of, name="Phone"),
    "USER_EXPORT_REQUESTED": lambda user, of: UserExportRequested(**_account(user), export_id=of),
    "USER_DELETED": lambda user, _: UserDeleted(user_id=user),
    "PROPERTIES_IMPORT_STARTED": lambda user, of: PropertiesImportStarted(import_id=_import_id(of), user_id=user),
    "PROPERTIES_IMPORT_FINISHED": lambda user, of: PropertiesImportFinished(
        import_id=_import_id(of),
        user_id=user,
        status=ImportStatus.COMPLETED,
        read=5,
        saved=2,
        updated=1,
        unchanged=1,
        refused=1,
    ),
    "NOTIFICATION_PREFERENCES_CHANGED": lambda user, _: PreferencesChanged(
        user_id=user, kinds={"PRICE_DROPPED": Channels(email=False)}
    ),
    "PROPERTY_VIEWED": lambda user, of: PropertyViewed(**_called(user, of)),
    "USER_LOGGED_IN": lambda user, _: UserLoggedIn(user_id=user),
    "LOGIN_FAILED": lambda user, _: LoginFailed(user_id=user, device="Firefox on Linux"),
    "REFRESH_TOKEN_REUSED": lambda user, of: RefreshTokenReused(user_id=user, session_id=of),
    "USER_NOTIFIED": lambda user, of: UserNotified(
        user_id=user, kind="PRICE_DROPPED", about_event_id=of, property_id=of, values={"title": "A flat by the lake"}
    ),
    "NOTIFICATIONS_READ": lambda user, of: NotificationsRead(user_id=user, notification_id=of),
    "PROPERTY_SEARCHED": lambda user, of: PropertySearched(search_id=of, query='{"q":"2 bhk uppal"}', total=12),
    "SEARCH_HISTORY_DELETED": lambda user, of: SearchHistoryDeleted(
        user_id=user, search_id=of, up_to=datetime(2026, 11, 25, tzinfo=UTC)
    ),
    "USER_EXPORTED": lambda user, of: UserExported(
        user_id=user, export_id=of, expires_at=datetime(2026, 12, 1, tzinfo=UTC)
    ),
    "SAVED_SEARCH_CREATED": lambda user, of: SavedSearchCreated(**_saved_search(user, of)),
    "SAVED_SEARCH_CHANGED": lambda user, of: SavedSearchChanged(**_saved_search(user, of) | {"hour": 18}),
    "SAVED_SEARCH_DELETED": lambda user, of: SavedSearchDeleted(saved_search_id=_search_id(of), user_id=user),
    "SAVED_SEARCH_MATCHED": lambda user, of: SavedSearchMatched(
        saved_search_id=_search_id(of),
        user_id=user,
        total=1,
        listings=(
            MatchedListing(
                property_id=of,
                version=1,
                because=MatchReason.NEW,
                title="A flat by the lake",
                location="Uppal",
                price=8_500_000,
            ),
        ),
    ),
    "SAVED_SEARCH_VISITED": lambda user, of: SavedSearchVisited(saved_search_id=_search_id(of), user_id=user),
    "DOCUMENT_UPLOADED": lambda user, of: DocumentUploaded(**_document(user, of)),
    "DOCUMENT_ADDED": lambda user, of: DocumentAdded(
        **_document(user, of), media_type="application/pdf", key="5f" * 32
    ),
    "DOCUMENT_REFUSED": lambda user, of: DocumentRefused(
        **_document(user, of),
        refused=DocumentRefusal(code="truncated", detail="The end of the PDF is missing. Send it again."),
    ),
    "DOCUMENT_DELETED": lambda user, of: DocumentDeleted(file_id=uuid5(of, "document"), owner_id=user),
}
OBSERVED = {
    "PROPERTY_VIEWED",
    "USER_LOGGED_IN",
    "LOGIN_FAILED",
    "REFRESH_TOKEN_REUSED",
    "USER_NOTIFIED",
    "NOTIFICATIONS_READ",
    "PROPERTY_SEARCHED",
    "SEARCH_HISTORY_DELETED",
    "USER_EXPORTED",
    "SAVED_SEARCH_MATCHED",
    "SAVED_SEARCH_VISITED",
}
"""The kinds of events that change no aggregate."""
OF_PERSON = {name for name in KINDS if not name.startswith("PROPERTY_")} | {"PROPERTY_SEARCHED"}
"""The kinds of events that are about no listing."""


def event_of_each_kind(tenant: str, user: UUID, property_id: UUID, *, without: Container[str] = ()) -> list[Event]:
    """What a user does with an account and a listing of their own: one event of each kind of the registry, in order."""
    begun, versions = datetime.now(UTC), Counter[UUID]()
    events = []
    for n, kind in enumerate(KINDS.values()):
        assert kind.name in _FACTS, f"tests/samples.py has no sample of {kind.name}"
        if kind.name in without:
            continue
        fact = _FACTS[kind.name](user, property_id)
        aggregate_id = _aggregate_of(fact, tenant, user)
        if kind.name not in OBSERVED:
            versions[aggregate_id] += 1
        events.append(
            Event(
                event_id=new_id(),
                aggregate_id=aggregate_id,
                user_id=user,
                tenant_id=tenant,
                event_type=kind.name,
                timestamp=begun + timedelta(microseconds=n),
                version=0 if kind.name in OBSERVED else versions[aggregate_id],
                schema_version=kind.schema_version,
                command_id=new_id(),
                data=fact,
            )
        )
    return events


def _aggregate_of(fact: Any, tenant: str, user: UUID) -> UUID:
    """The aggregate that an event with this data belongs to."""
    if hasattr(fact, "is_favorite"):
        return ids.favorite_id(tenant, user, fact.property_id)
    if isinstance(fact, PreferencesChanged):
        return preferences_id(user)
    if isinstance(fact, UserNotified):
        return user
    if hasattr(fact, "saved_search_id"):
        return cast(UUID, fact.saved_search_id)
    if hasattr(fact, "file_id"):
        return cast(UUID, fact.file_id)
    if hasattr(fact, "import_id"):
        return cast(UUID, fact.import_id)
    return getattr(fact, "property_id", user)
