"""Changing a listing: the events of each command, and its refusals."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from domain.errors import (
    EmailNotVerified,
    InvalidChange,
    ListingClosed,
    NotAdmin,
    NotOwner,
    PropertyNotFound,
    Refusal,
    StatusRefused,
    VersionConflict,
)
from domain.property import Property, PropertyDetails, PropertyPatch
from domain.property_commands import (
    ChangePropertyStatus,
    DeleteProperty,
    FeatureProperty,
    PatchProperty,
    Sender,
    UpdateProperty,
    VerifyProperty,
    decide,
)
from domain.property_events import (
    PropertyDeleted,
    PropertyFact,
    PropertyPriceChanged,
    PropertyStatusChanged,
    PropertyUpdated,
    evolve,
)
from domain.property_status import CLOSED_STATUSES, PUBLIC_STATUSES, TRANSITIONS, Party, PropertyStatus
from domain.roles import UserRole
from tests.samples import actor, create_property, listing, new_id

OWNER, STRANGER, ADMIN = new_id(), new_id(), actor(new_id(), UserRole.ADMIN)
AT = datetime(2024, 1, 15, 10, 30, tzinfo=UTC)


def listed(status: PropertyStatus = PropertyStatus.ACTIVE, **more: Any) -> Property:
    command = create_property("hyderabad", OWNER, **more)
    [event] = decide(None, command, actor(OWNER))
    state = evolve(None, event, 1, AT)
    assert state is not None
    return state.model_copy(update={"status": status})


def change(command: type[Any], state: Property | None, **fields: Any) -> Any:
    common = {"command_id": new_id(), "tenant_id": "hyderabad", "user_id": OWNER, "issued_at": AT + timedelta(hours=1)}
    return command(**common, property_id=state.id if state else new_id(), **fields)


def patch(state: Property | None, expected: tuple[int, ...] | None = None, **changes: Any) -> PatchProperty:
    body = PropertyPatch.model_validate(changes)
    patching: PatchProperty = change(PatchProperty, state, changes=body, expected_versions=expected)
    return patching


def status(state: Property, to: PropertyStatus) -> ChangePropertyStatus:
    changing: ChangePropertyStatus = change(ChangePropertyStatus, state, status=to, reason="because")
    return changing


def after(state: Property, facts: list[PropertyFact]) -> Property | None:
    evolved: Property | None = state
    for fact in facts:
        evolved = evolve(evolved, fact, (evolved or state).version + 1, AT + timedelta(hours=1))
    return evolved


def test_patched_fields_change_and_the_others_stay() -> None:
    state = listed(bedrooms=3, contactPhone="9848022338")

    [event] = decide(state, patch(state, bedrooms=4, facing="EAST"), actor(OWNER))
    changed = after(state, [event])

    assert isinstance(event, PropertyUpdated)
    assert event.changed == ("bedrooms", "facing")
    assert changed is not None
    assert changed.model_dump(exclude={"bedrooms", "facing", "version", "updated_at"}) == state.model_dump(
        exclude={"bedrooms", "facing", "version", "updated_at"}
    )
    assert (changed.bedrooms, changed.version, changed.created_at) == (4, 2, AT)
    assert changed.updated_at > AT


def test_listed_at_is_the_first_publication() -> None:
    command = create_property("hyderabad", OWNER).model_copy(update={"status": PropertyStatus.DRAFT})
    moments = [AT + timedelta(days=day) for day in range(5)]
    state = evolve(None, decide(None, command, actor(OWNER))[0], 1, moments[0])
    assert state is not None
    assert state.listed_at is None

    listed_at = []
    for at, to in zip(moments[1:], ("ACTIVE", "PAUSED", "ACTIVE", "SOLD"), strict=True):
        [moved] = decide(state, status(state, PropertyStatus(to)), actor(OWNER))
        state = evolve(state, moved, state.version + 1, at)
        assert state is not None
        listed_at.append(state.listed_at)

    assert listed_at == [moments[1]] * 4
    assert listed().listed_at == AT


def test_events_say_who_listed_and_when() -> None:
    command = create_property("hyderabad", OWNER).model_copy(update={"status": PropertyStatus.DRAFT, "issued_at": AT})
    [created] = decide(None, command, actor(OWNER, UserRole.BUILDER))
    draft = evolve(None, created, 1, AT)
    assert draft is not None
    published = status(draft, PropertyStatus.ACTIVE).model_copy(update={"issued_at": AT + timedelta(days=1)})
    [activated] = decide(draft, published, actor(OWNER, UserRole.AGENT))
    active = evolve(draft, activated, 2, AT + timedelta(days=1))
    assert active is not None
    [paused] = decide(active, status(active, PropertyStatus.PAUSED), actor(OWNER))
    [renamed] = decide(active, patch(active, title="A flat by the lake"), ADMIN)

    assert not isinstance(created, PropertyDeleted)
    assert (created.posted_by, created.created_at, created.listed_at) == (UserRole.BUILDER, AT, None)
    for event in (activated, paused, renamed):
        assert not isinstance(event, PropertyDeleted)
        assert (event.posted_by, event.created_at) == (UserRole.BUILDER, AT)
        assert event.listed_at == AT + timedelta(days=1) == active.listed_at


def test_null_removes_a_field_or_restores_its_default() -> None:
    state = listed(bedrooms=3, city="Secunderabad", amenities=["Lift"])

    changed = after(state, decide(state, patch(state, bedrooms=None, city=None, amenities=None), actor(OWNER)))

    assert changed is not None
    assert (changed.bedrooms, changed.city, changed.amenities) == (None, "Hyderabad", ())


@pytest.mark.parametrize("name", ["title", "description", "price", "location", "propertyType", "listingType"])
def test_null_is_refused_for_a_required_field(name: str) -> None:
    with pytest.raises(ValidationError, match=name):
        PropertyPatch.model_validate({name: None})


def test_patch_that_makes_the_listing_invalid_is_refused() -> None:
    state = listed(totalFloors=4, latitude=17.4, longitude=78.4)

    for changes, reason in (({"floorNumber": 9}, "totalFloors"), ({"latitude": None}, "together")):
        with pytest.raises(InvalidChange, match=reason):
            decide(state, patch(state, **changes), actor(OWNER))


def test_patch_is_the_same_after_a_round_trip_through_json() -> None:
    body = PropertyPatch.model_validate({"price": 7, "latitude": None, "contactPhone": "9848022338"})

    again = PropertyPatch.model_validate_json(body.model_dump_json(by_alias=True))

    assert again == body
    assert again.model_fields_set == {"price", "latitude", "contact_phone"}


def test_price_has_its_own_event_and_the_previous_price_is_kept() -> None:
    state = listed(bedrooms=3)

    facts = decide(state, patch(state, price=9_000_000, bedrooms=4), actor(OWNER))
    changed = after(state, facts)

    assert [type(fact) for fact in facts] == [PropertyUpdated, PropertyPriceChanged]
    assert changed is not None
    assert (changed.price, changed.previous_price, changed.bedrooms, changed.version) == (9_000_000, state.price, 4, 3)


def test_update_clears_fields_that_are_not_sent() -> None:
    state = listed(bedrooms=3, contactName="Lakshmi Devi")
    details = PropertyDetails.model_validate(listing(title="Another title"))

    [event] = decide(state, change(UpdateProperty, state, details=details), actor(OWNER))

    assert isinstance(event, PropertyUpdated)
    assert event.changed == ("bedrooms", "contactName", "title")


@pytest.mark.parametrize("command", [UpdateProperty, PatchProperty, ChangePropertyStatus, FeatureProperty])
def test_change_that_changes_nothing_has_no_event(command: type[Any]) -> None:
    state = listed(bedrooms=3)
    fields: dict[type[Any], dict[str, Any]] = {
        UpdateProperty: {"details": state.details},
        PatchProperty: {"changes": PropertyPatch.model_validate({"price": state.price, "bedrooms": 3})},
        ChangePropertyStatus: {"status": state.status},
        FeatureProperty: {"value": False},
    }

    assert decide(state, change(command, state, **fields[command]), ADMIN) == []


@pytest.mark.parametrize("closed", sorted(CLOSED_STATUSES))
def test_sold_property_refuses_price_change(closed: PropertyStatus) -> None:
    state = listed(closed)

    with pytest.raises(ListingClosed):
        decide(state, patch(state, price=1), actor(OWNER))


@pytest.mark.parametrize(
    ("by", "status", "refusal"),
    [
        (actor(STRANGER), PropertyStatus.ACTIVE, NotOwner),
        (actor(STRANGER), PropertyStatus.DRAFT, PropertyNotFound),
        (actor(STRANGER), PropertyStatus.REJECTED, PropertyNotFound),
        (actor(OWNER), PropertyStatus.DRAFT, None),
        (ADMIN, PropertyStatus.ACTIVE, None),
        (ADMIN, PropertyStatus.DRAFT, None),
    ],
)
def test_listing_is_changed_by_its_owner_and_administrators(
    by: Sender, status: PropertyStatus, refusal: type[Refusal] | None
) -> None:
    state = listed(status)
    commands = [patch(state, bedrooms=1), change(DeleteProperty, state)]

    for command in commands:
        if refusal is None:
            assert decide(state, command, by)
        else:
            with pytest.raises(refusal):
                decide(state, command, by)


def test_change_of_a_listing_that_does_not_exist_is_refused() -> None:
    with pytest.raises(PropertyNotFound):
        decide(None, patch(None, bedrooms=1), ADMIN)


@pytest.mark.parametrize(
    ("expected", "accepted"), [((1,), True), ((3, 1), True), (None, True), ((2,), False), ((), False)]
)
def test_change_is_refused_unless_its_versions_include_the_current_one(
    expected: tuple[int, ...] | None, accepted: bool
) -> None:
    state = listed()
    command = patch(state, expected, bedrooms=1)

    if accepted:
        assert decide(state, command, actor(OWNER))
    else:
        with pytest.raises(VersionConflict, match="version 1"):
            decide(state, command, actor(OWNER))


@pytest.mark.parametrize(("command", "name"), [(FeatureProperty, "is_featured"), (VerifyProperty, "is_verified")])
def test_only_administrators_feature_and_verify(command: type[Any], name: str) -> None:
    state = listed()

    changed = after(state, decide(state, change(command, state, value=True), ADMIN))

    assert changed is not None
    assert getattr(changed, name) is True
    with pytest.raises(NotAdmin):
        decide(state, change(command, state, value=True), actor(OWNER))


def test_tombstone_contains_no_personal_data() -> None:
    state = listed(contactName="Lakshmi Devi")

    [event] = decide(state, change(DeleteProperty, state), actor(OWNER))

    assert isinstance(event, PropertyDeleted)
    assert "Lakshmi" not in event.model_dump_json()
    assert evolve(state, event, 2, AT) is None


@pytest.mark.parametrize("by", [actor(OWNER), ADMIN], ids=["owner", "admin"])
@pytest.mark.parametrize("start", list(PropertyStatus))
@pytest.mark.parametrize("to", list(PropertyStatus))
def test_status_follows_the_table(start: PropertyStatus, to: PropertyStatus, by: Sender) -> None:
    state = listed(start)
    party = Party.ADMIN if by.is_admin else Party.OWNER
    allowed = TRANSITIONS[start].get(to, frozenset())

    if to == start:
        assert decide(state, status(state, to), by) == []
    elif party in allowed and to is not PropertyStatus.RENTED:
        [event] = decide(state, status(state, to), by)
        assert isinstance(event, PropertyStatusChanged)
        assert (event.from_status, event.to_status, event.status, event.reason) == (start, to, to, "because")
    else:
        with pytest.raises(NotAdmin if Party.ADMIN in allowed and to is not PropertyStatus.RENTED else StatusRefused):
            decide(state, status(state, to), by)


@pytest.mark.parametrize(
    ("listing_type", "to", "accepted"),
    [("SALE", "SOLD", True), ("SALE", "RENTED", False), ("RENT", "RENTED", True), ("PG", "SOLD", False)],
)
def test_listing_for_sale_is_sold_and_one_for_rent_is_rented(listing_type: str, to: str, accepted: bool) -> None:
    state = listed(listingType=listing_type)

    if accepted:
        assert decide(state, status(state, PropertyStatus(to)), actor(OWNER))
    else:
        with pytest.raises(StatusRefused, match="may change to"):
            decide(state, status(state, PropertyStatus(to)), actor(OWNER))


@given(st.lists(st.sampled_from(PropertyStatus), max_size=8))
def test_owner_cannot_make_a_rejected_listing_public(steps: list[PropertyStatus]) -> None:
    state = listed(PropertyStatus.REJECTED)

    for step in steps:
        try:
            moved = after(state, decide(state, status(state, step), actor(OWNER)))
        except Refusal:
            continue
        assert moved is not None
        state = moved

    assert state.status not in PUBLIC_STATUSES


def test_every_status_is_reachable_and_has_transitions() -> None:
    reached = {to for following in TRANSITIONS.values() for to in following}

    assert TRANSITIONS.keys() == set(PropertyStatus)
    assert reached | {PropertyStatus.DRAFT} == set(PropertyStatus)


UNVERIFIED = {"owner_must_verify": True}


@pytest.mark.parametrize("by", [actor(OWNER), ADMIN], ids=["owner", "admin"])
@pytest.mark.parametrize("start", list(PropertyStatus))
@pytest.mark.parametrize("to", list(PropertyStatus))
def test_listing_of_an_unverified_owner_does_not_become_active(
    start: PropertyStatus, to: PropertyStatus, by: Sender
) -> None:
    state = listed(start)
    try:
        allowed = decide(state, status(state, to), by)
    except Refusal as refusal:
        with pytest.raises(type(refusal)):
            decide(state, status(state, to), by.model_copy(update=UNVERIFIED))
        return

    if allowed and to is PropertyStatus.ACTIVE:
        advice = "Verify your" if by.user_id == OWNER else "The owner must verify"
        with pytest.raises(EmailNotVerified, match=advice):
            decide(state, status(state, to), by.model_copy(update=UNVERIFIED))
    else:
        assert decide(state, status(state, to), by.model_copy(update=UNVERIFIED)) == allowed


def test_unverified_owner_creates_drafts_only() -> None:
    active, by = create_property("hyderabad", OWNER), actor(OWNER).model_copy(update=UNVERIFIED)

    assert len(decide(None, active.model_copy(update={"status": PropertyStatus.DRAFT}), by)) == 1
    with pytest.raises(EmailNotVerified):
        decide(None, active, by)
    assert decide(listed(), active, by) == []


@pytest.mark.parametrize("start", list(PropertyStatus))
def test_unverified_owner_changes_a_listing_that_is_listed_already(start: PropertyStatus) -> None:
    by = actor(OWNER, UserRole.ADMIN).model_copy(update=UNVERIFIED)
    state = listed(start)

    if start not in CLOSED_STATUSES:
        assert decide(state, patch(state, price=9), by)
    for command in (FeatureProperty, VerifyProperty):
        assert decide(state, change(command, state, value=True), by)
    assert decide(state, change(DeleteProperty, state), by)


def test_listing_becomes_public_as_active_only() -> None:
    published = {to for start in set(PropertyStatus) - PUBLIC_STATUSES for to in TRANSITIONS[start]} & PUBLIC_STATUSES

    assert published == {PropertyStatus.ACTIVE}
