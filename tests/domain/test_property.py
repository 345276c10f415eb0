"""Creating a listing: its event, its state, and the values that are refused."""

import math
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from domain.events import new_events
from domain.property import PropertyDetails
from domain.property_commands import decide
from domain.property_events import PropertyCreated, evolve
from domain.property_status import PropertyStatus
from tests.samples import actor, create_property, listing, new_id


def test_creating_a_property_makes_an_event_with_all_its_details() -> None:
    command = create_property("hyderabad", new_id(), bedrooms=3, contactPhone="98480 22338")

    [event] = decide(None, command, actor(command.user_id))

    assert isinstance(event, PropertyCreated)
    assert (event.property_id, event.owner_id) == (command.property_id, command.user_id)
    assert event.status is PropertyStatus.ACTIVE
    assert (event.title, event.bedrooms, event.contact_phone) == (command.details.title, 3, "+919848022338")


def test_created_property_is_not_created_again() -> None:
    command = create_property("hyderabad", new_id())
    [event] = decide(None, command, actor(command.user_id))
    state = evolve(None, event, 1, command.issued_at)

    assert decide(state, command, actor(command.user_id)) == []


def test_state_follows_from_the_event() -> None:
    command = create_property("hyderabad", new_id(), amenities=["Lift", "Gym"], latitude=17.44, longitude=78.35)
    [event] = new_events(command, command.property_id, 0, decide(None, command, actor(command.user_id)))

    state = evolve(None, event.data, event.version, event.timestamp)

    assert state is not None
    assert (state.id, state.version, state.owner_id) == (command.property_id, 1, command.user_id)
    assert state.created_at == state.updated_at == command.issued_at
    assert state.model_dump(include=set(PropertyDetails.model_fields)) == command.details.model_dump()


def test_the_same_command_makes_the_same_event_ids() -> None:
    command = create_property("hyderabad", new_id())

    first = new_events(command, command.property_id, 0, decide(None, command, actor(command.user_id)))
    again = new_events(command, command.property_id, 0, decide(None, command, actor(command.user_id)))

    assert first == again


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("title", "Flat", "at least 5"),
        ("title", "x" * 201, "at most 200"),
        ("title", "Flat with a\nbreak", "one line"),
        ("title", "Flat\x00nul here", "control characters"),
        ("title", 12345, "valid string"),
        ("description", "short", "at least 10"),
        ("description", "x" * 5001, "at most 5000"),
        ("description", "a lone surrogate \ud800 here", "valid string"),
        ("price", 0, "greater than 0"),
        ("price", -1, "greater than 0"),
        ("price", 8_500_000.0, "valid integer"),
        ("price", "8500000", "valid integer"),
        ("price", math.nan, "valid integer"),
        ("price", math.inf, "valid integer"),
        ("price", True, "valid integer"),
        ("price", 10**13, "less than or equal"),
        ("propertyType", "CASTLE", "'APARTMENT'"),
        ("listingType", "LEASE", "'SALE'"),
        ("furnishedStatus", "HALF", "'FURNISHED'"),
        ("facing", "UP", "'NORTH'"),
        ("pincode", "050032", "six digits"),
        ("reraId", "P1234", "P0 and ten digits"),
        ("bedrooms", -1, "greater than or equal"),
        ("bedrooms", 2.5, "valid integer"),
        ("areaSqft", 0, "greater than 0"),
        ("contactPhone", "12345", "ten-digit Indian number"),
        ("contactEmail", "nobody", "not a valid email"),
        ("amenities", ["Lift", "lift"], "once"),
        ("amenities", ["x"] * 101, "at most 100"),
        ("castle", True, "not permitted"),
    ],
)
def test_listing_refuses(field: str, value: Any, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        PropertyDetails.model_validate(listing(**{field: value}))


@pytest.mark.parametrize(
    ("latitude", "longitude", "reason"),
    [
        (51.5, 78.4, "37.5"),
        (17.4, 7.8, "68"),
        (78.4, 17.4, "37.5"),
        (math.nan, 78.4, "finite"),
        (17.4, None, "together"),
    ],
)
def test_listing_refuses_points_outside_india(latitude: float, longitude: float | None, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        PropertyDetails.model_validate(listing(latitude=latitude, longitude=longitude))


def test_floor_number_above_total_floors_is_refused() -> None:
    with pytest.raises(ValidationError, match="totalFloors"):
        PropertyDetails.model_validate(listing(floorNumber=9, totalFloors=4))


def test_text_is_trimmed_and_phone_numbers_are_made_international() -> None:
    details = PropertyDetails.model_validate(listing(title="  A home in Kondapur  ", contactPhone="098480-22338"))

    assert (details.title, details.contact_phone) == ("A home in Kondapur", "+919848022338")


def test_time_comes_from_the_command() -> None:
    at = datetime(2024, 1, 15, 10, 30, tzinfo=UTC)
    command = create_property("hyderabad", new_id()).model_copy(update={"issued_at": at})

    [event] = new_events(command, command.property_id, 0, decide(None, command, actor(command.user_id)))

    assert event.timestamp == at
