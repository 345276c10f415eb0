"""Events: the registry, older schema versions, and activities."""

import json
import traceback
from pathlib import Path
from typing import Any, get_args
from uuid import UUID

import pytest
from pydantic import ValidationError
from pydantic.alias_generators import to_camel

from domain import favorite_commands, ids, property_events, user_commands
from domain.activity import activity_of
from domain.events import KINDS, AnyFact, UnreadableEvent, new_events, read_event
from domain.model import Fact
from domain.property_commands import decide
from domain.property_events import PropertyCreated
from domain.property_status import PropertyStatus
from domain.user_events import UserRegistered
from tests.samples import actor, create_property, event_of_each_kind, new_id

OLD = Path(__file__).parent / "old_events"


def message() -> dict[str, object]:
    command = create_property("hyderabad", new_id())
    [event] = new_events(command, command.property_id, 0, decide(None, command, actor(command.user_id)))
    return event.model_dump(mode="json", by_alias=True)


def test_event_is_read_as_it_was_written() -> None:
    written = message()

    assert read_event(written).model_dump(mode="json", by_alias=True) == written


def test_property_event_of_the_seven_services_is_still_readable() -> None:
    event = read_event(json.loads((OLD / "property_created_v0.json").read_text()))

    assert isinstance(event.data, PropertyCreated)
    assert (event.tenant_id, event.version, event.schema_version) == ("hyderabad", 1, 1)
    assert (event.data.price, event.data.status) == (8_500_000, PropertyStatus.ACTIVE)
    assert event.data.owner_id == event.user_id


def test_user_event_of_the_seven_services_is_still_readable() -> None:
    event = read_event(json.loads((OLD / "user_registered_v0.json").read_text()))

    assert isinstance(event.data, UserRegistered)
    assert event.data.user_id == event.user_id


def test_every_version_of_every_event_kind_has_a_stored_sample() -> None:
    stored = {path.stem for path in OLD.glob("*.json")}

    wanted = {
        f"{name.lower()}_v{n}" for name, kind in KINDS.items() for n in range(kind.oldest, kind.schema_version + 1)
    }
    assert stored == wanted


@pytest.mark.parametrize("file", sorted(OLD.glob("*.json")), ids=lambda file: file.stem)
def test_stored_event_is_readable_for_good(file: Path) -> None:
    stored = json.loads(file.read_text())

    event = read_event(stored)

    assert event.event_type == stored["eventType"]
    if stored.get("schemaVersion") == KINDS[event.event_type].schema_version:
        read = event.model_dump(mode="json", by_alias=True)
        assert read | stored | {"data": None} == read | {"data": None}
        assert read["data"] | stored["data"] == read["data"]


def test_property_event_of_the_seven_services_without_a_description_is_readable_whatever_its_title() -> None:
    old = json.loads((OLD / "property_created_v0.json").read_text())
    del old["data"]["description"]

    event = read_event({**old, "data": {**old["data"], "title": "Plot 7"}})

    assert (event.data.title, event.data.description) == ("Plot 7", "Plot 7")


BY_RULES_OF_ANOTHER_DAY: dict[str, Any] = {
    "title": "Flat",
    "description": " Nice ",
    "price": 0,
    "location": "\n",
    "pincode": "5",
    "bedrooms": 1000,
    "floorNumber": 9,
    "totalFloors": 2,
    "amenities": ["Lift", "lift"],
    "latitude": 80.0,
    "reraId": "none",
    "contactName": "",
    "contactPhone": "none",
    "contactEmail": "Nobody",
    "username": "-",
    "email": "Nobody",
    "firstName": "",
    "lastName": "",
    "phoneNumber": "none",
    "reason": "",
    "previousPrice": -1,
}
"""What no field of these names may have in a command."""


@pytest.mark.parametrize("kind", KINDS)
def test_event_is_read_by_its_types_whatever_the_rules_of_its_fields_are(kind: str) -> None:
    [event] = [one for one in event_of_each_kind("hyderabad", new_id(), new_id()) if one.event_type == kind]
    stored = event.model_dump(mode="json", by_alias=True)
    stored["data"] |= {name: value for name, value in BY_RULES_OF_ANOTHER_DAY.items() if name in stored["data"]}

    assert read_event(stored).model_dump(mode="json", by_alias=True) == stored


def test_state_is_read_by_its_types_whatever_the_rules_of_its_fields_are() -> None:
    events = {event.event_type: event for event in event_of_each_kind("hyderabad", new_id(), new_id())}
    listed, registered, liked = [events[name] for name in ("PROPERTY_CREATED", "USER_REGISTERED", "PROPERTY_FAVORITED")]
    states: list[Fact | None] = [
        property_events.evolve(None, listed.data, 1, listed.timestamp),
        user_commands.evolve(None, registered.data, 1, registered.timestamp),
        favorite_commands.evolve(None, liked.data, 1, liked.timestamp),
    ]

    for state in states:
        assert state
        row = state.model_dump(exclude={"amenities"})
        row |= {name: value for name in row if (value := BY_RULES_OF_ANOTHER_DAY.get(to_camel(name))) is not None}
        assert type(state).model_validate(row).model_dump(exclude={"amenities"}) == row


@pytest.mark.parametrize("value", ["free", None, 8.5])
def test_event_with_a_value_of_another_type_is_unreadable(value: object) -> None:
    stored = message()
    stored["data"] = {**stored["data"], "price": value}  # type: ignore[dict-item]

    with pytest.raises(UnreadableEvent, match="price"):
        read_event(stored)


def test_fields_of_a_later_release_are_ignored() -> None:
    later = message()
    later["data"] = {**later["data"], "swimmingPools": 2}  # type: ignore[dict-item]

    assert read_event({**later, "shard": 7}).data.title == "3BHK Apartment in Gachibowli"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"eventType": "PROPERTY_DEMOLISHED"}, "unknown event type"),
        ({"schemaVersion": 99}, "reads 0 to 1"),
        ({"schemaVersion": "1"}, "no schema version"),
        ({"data": {}}, "title"),
        ({"data": None}, "PROPERTY_CREATED"),
        ({"eventId": "not-a-uuid"}, "eventId"),
    ],
)
def test_message_that_is_not_an_event_is_refused_with_the_reason(change: dict[str, object], reason: str) -> None:
    with pytest.raises(UnreadableEvent, match=reason):
        read_event({**message(), **change})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"data": {"propertyId": "Lakshmi Devi"}}, "propertyId: Input should be a valid UUID"),
        ({"schemaVersion": 0, "data": {"title": "Flat", "price": "Lakshmi Devi"}}, "ValueError in schema version 0"),
        ({"schemaVersion": 0, "data": {"title": "Flat", "price": "Infinity"}}, "OverflowError in schema version 0"),
        ({"schemaVersion": 0, "data": {"title": "Lakshmi Devi"}}, "'price' is missing"),
    ],
)
def test_reason_names_the_field_and_contains_no_value(change: dict[str, object], reason: str) -> None:
    with pytest.raises(UnreadableEvent, match=reason) as refused:
        read_event({**message(), **change})

    assert "Lakshmi" not in "".join(traceback.format_exception(refused.value))


def test_validation_error_of_a_command_contains_no_value() -> None:
    with pytest.raises(ValidationError) as refused:
        create_property("hyderabad", new_id(), contactPhone="98480-personal")

    assert "personal" not in str(refused.value)


@pytest.mark.parametrize("kind", ["USER_PASSKEY_ADDED", "USER_PASSKEY_REMOVED", "USER_STATUS_CHANGED"])
def test_activity_has_no_text_that_somebody_typed(kind: str) -> None:
    [event] = [one for one in event_of_each_kind("hyderabad", new_id(), new_id()) if one.event_type == kind]
    typed = {"name": "Lakshmi"} if "PASSKEY" in kind else {"reason": "Lakshmi"}

    activity = activity_of(event.model_copy(update={"data": event.data.model_copy(update=typed)}))

    assert activity is not None
    assert "Lakshmi" not in activity.model_dump_json()


def test_activity_describes_the_event_without_personal_data() -> None:
    command = create_property("hyderabad", new_id(), contactName="Lakshmi Devi", contactPhone="9848022338")
    [event] = new_events(command, command.property_id, 0, decide(None, command, actor(command.user_id)))

    activity = activity_of(event)

    assert activity is not None
    assert activity.description == "User created property: 3BHK Apartment in Gachibowli"
    assert activity.activity_data["location"] == "Gachibowli"
    assert "Lakshmi" not in activity.model_dump_json()
    assert "9848022338" not in activity.model_dump_json()


def test_every_kind_of_event_has_a_description_of_its_own() -> None:
    described = {
        event.event_type: activity.description
        for event in event_of_each_kind("hyderabad", new_id(), new_id())
        if (activity := activity_of(event))
    }

    assert KINDS.keys() - described.keys() == {
        "USER_NOTIFIED",
        "NOTIFICATIONS_READ",
        "USER_VERIFICATION_EXPIRED",
        "USER_EXPORTED",
        "SAVED_SEARCH_MATCHED",
    }
    assert len(set(described.values())) == len(described)


def test_kind_of_event_without_a_description_is_nobody_s_registration() -> None:
    class Demolished(Fact):
        pass

    assert set(get_args(AnyFact)) == {kind.model for kind in KINDS.values()}  # so mypy sees a branch that is missing
    with pytest.raises(AssertionError):
        activity_of(read_event(message()).model_copy(update={"data": Demolished()}))


def test_uuid7_is_ordered_by_time_and_marked_as_version_7() -> None:
    earlier, later = ids.uuid7(1_700_000_000_000, b"\xff" * 10), ids.uuid7(1_700_000_000_001, b"\x00" * 10)

    assert earlier < later
    assert (earlier.version, earlier.variant) == (7, "specified in RFC 4122")


def test_keyed_command_ids_differ_by_tenant_caller_route_and_key() -> None:
    made = {
        ids.keyed_command_id(*parts)
        for parts in [("a", "b", "c", "d"), ("ab", "", "c", "d"), ("a", "bc", "", "d"), ("a", "b", "cd", "")]
    }

    assert len(made) == 4
    assert ids.keyed_command_id("a", "b", "c", "d") in made


def test_trace_id_of_traceparent_is_the_command_id() -> None:
    command_id = UUID("03c5939c-b37d-5b6c-9bd4-6477d13e1a11")

    trace = ids.traceparent(command_id, ids.event_id(command_id, 1))

    assert trace.startswith(f"00-{command_id.hex}-")
    assert len(trace) == 55
