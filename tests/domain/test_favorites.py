"""Favourites: which listings can be added and removed, and repetitions."""

from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID

import pytest

from domain import ids
from domain.activity import activity_of
from domain.errors import PropertyNotFound
from domain.events import Event, new_events, read_event
from domain.favorite_commands import (
    Favorite,
    FavoriteCommand,
    FavoriteProperty,
    PropertyFavorited,
    PropertyUnfavorited,
    UnfavoriteProperty,
    Viewer,
    decide,
    evolve,
)
from domain.property import Property
from domain.property_commands import decide as decide_property
from domain.property_events import evolve as evolve_property
from domain.property_status import PropertyStatus
from domain.roles import UserRole
from tests.samples import actor, create_property, new_id

OWNER, FAN = new_id(), new_id()


def listed(status: PropertyStatus = PropertyStatus.ACTIVE) -> Property:
    command = create_property("hyderabad", OWNER)
    by = actor(OWNER)
    state = evolve_property(None, decide_property(None, command, by)[0], 1, command.issued_at)
    assert state is not None
    return state.model_copy(update={"status": status})


def viewer(listing: Property | None, user_id: UUID = FAN, role: UserRole = UserRole.USER) -> Viewer:
    return Viewer(user_id=user_id, role=role, listing=listing)


def favorite(property_id: UUID, user_id: UUID = FAN) -> FavoriteProperty:
    return FavoriteProperty(**common(property_id, user_id))


def unfavorite(property_id: UUID, user_id: UUID = FAN) -> UnfavoriteProperty:
    return UnfavoriteProperty(**common(property_id, user_id))


def common(property_id: UUID, user_id: UUID) -> dict[str, object]:
    at = datetime.now(UTC)
    return {
        "command_id": new_id(),
        "tenant_id": "hyderabad",
        "user_id": user_id,
        "issued_at": at,
        "property_id": property_id,
    }


def after(command: FavoriteCommand, state: Favorite | None, by: Viewer) -> tuple[list[Event], Favorite | None]:
    version = state.version if state else 0
    events = new_events(command, command.aggregate_id, version, list(decide(state, command, by)))
    for event in events:
        state = evolve(state, event.data, event.version, event.timestamp)
    return events, state


def test_public_listing_becomes_a_favourite_once() -> None:
    listing = listed()
    command = favorite(listing.id)

    [event], state = after(command, None, viewer(listing))
    again, _ = after(favorite(listing.id), state, viewer(listing))

    assert event.aggregate_id == ids.favorite_id("hyderabad", FAN, listing.id)
    assert event.data == PropertyFavorited(
        property_id=listing.id, user_id=FAN, owner_id=OWNER, title=listing.title, location=listing.location
    )
    assert state is not None
    assert (state.is_favorite, state.version, state.changed_at) == (True, 1, command.issued_at)
    assert again == []


def test_favourite_is_removed_once_and_can_be_added_again() -> None:
    listing = listed()
    _, added = after(favorite(listing.id), None, viewer(listing))

    [event], removed = after(unfavorite(listing.id), added, viewer(listing))
    repeated, _ = after(unfavorite(listing.id), removed, viewer(listing))
    [readded], state = after(favorite(listing.id), removed, viewer(listing))

    assert isinstance(event.data, PropertyUnfavorited)
    assert repeated == []
    assert (readded.event_type, readded.version) == ("PROPERTY_FAVORITED", 3)
    assert state is not None
    assert state.is_favorite


@pytest.mark.parametrize("status", [PropertyStatus.DRAFT, PropertyStatus.PAUSED, PropertyStatus.REJECTED])
def test_listing_that_the_user_may_not_see_is_not_found(status: PropertyStatus) -> None:
    listing = listed(status)

    for command in (favorite(listing.id), unfavorite(listing.id)):
        with pytest.raises(PropertyNotFound):
            decide(None, command, viewer(listing))


def test_owner_and_administrator_can_add_a_draft() -> None:
    draft = listed(PropertyStatus.DRAFT)

    assert decide(None, favorite(draft.id, OWNER), viewer(draft, OWNER))
    assert decide(None, favorite(draft.id), viewer(draft, role=UserRole.ADMIN))


@pytest.mark.parametrize("now", [None, PropertyStatus.DRAFT])
def test_favourite_of_a_deleted_or_hidden_listing_can_be_removed(now: PropertyStatus | None) -> None:
    listing = listed()
    _, state = after(favorite(listing.id), None, viewer(listing))
    by = viewer(listed(now) if now else None)

    [event], removed = after(unfavorite(listing.id), state, by)
    repeated, _ = after(unfavorite(listing.id), removed, by)

    assert event.data.title == listing.title
    assert repeated == []


def test_unknown_listing_cannot_be_added_or_removed() -> None:
    for command in (favorite(new_id()), unfavorite(new_id())):
        with pytest.raises(PropertyNotFound):
            decide(None, command, viewer(None))


def test_favourite_ids_differ_by_tenant_user_and_listing() -> None:
    listing, another = new_id(), new_id()
    made = {
        ids.favorite_id(tenant, user, property_id)
        for tenant in ("hyderabad", "second")
        for user in (OWNER, FAN)
        for property_id in (listing, another)
    }

    assert len(made) == 8
    assert ids.favorite_id("hyderabad", FAN, listing) in made


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (favorite, "User added property to favourites: 3BHK Apartment in Gachibowli"),
        (unfavorite, "User removed property from favourites: 3BHK Apartment in Gachibowli"),
    ],
)
def test_event_is_read_as_it_was_written_and_has_an_activity(
    make: Callable[[UUID], FavoriteCommand], line: str
) -> None:
    listing = listed()
    _, state = after(favorite(listing.id), None, viewer(listing))
    [event], _ = after(make(listing.id), None if make is favorite else state, viewer(listing))

    read = read_event(event.model_dump(mode="json", by_alias=True))

    assert read == event
    activity = activity_of(read)
    assert activity is not None
    assert activity.description == line
    assert activity.activity_data == {
        "propertyId": str(listing.id),
        "title": listing.title,
        "location": listing.location,
    }
