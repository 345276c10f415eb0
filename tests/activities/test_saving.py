"""Saving: everything or nothing, once for each command, on real Postgres."""

import asyncio
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import select, text, update
from temporalio.api.failure.v1 import Failure
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ApplicationError

from activities.properties import Properties
from activities.saving import CommandStore, wrapped_key
from activities.users import Users
from adapters import event_store
from adapters.current_state import find_property, find_user
from adapters.postgres import Database
from adapters.sealing import Keyring
from adapters.tables import notices, properties, users
from domain.command import FAILED, Change, Command, Saved, SealedCommand
from domain.errors import Refusal
from domain.property import Property, PropertyDetails, PropertyPatch
from domain.property_commands import (
    ChangePropertyStatus,
    CreateProperty,
    DeleteProperty,
    FeatureProperty,
    PatchProperty,
    UpdateProperty,
    VerifyProperty,
)
from domain.property_status import PropertyStatus
from domain.roles import UserRole
from domain.user_commands import ChangeRole, RegisterUser
from tests.activities.accounts import Saving, change
from tests.samples import create_property, listing, new_id, register_user

Changing = Callable[[CreateProperty], Change]
TABLES = (
    "property_management.properties",
    "user_history.event_store",
    "user_history.commands",
    "notification.notices",
)


async def rows(database: Database, tenant: str) -> dict[str, int]:
    async with database.transaction(tenant) as tx:
        return {table: (await tx.execute(text(f"SELECT count(*) FROM {table}"))).scalar_one() for table in TABLES}


async def row_of(database: Database, command: CreateProperty) -> Property | None:
    async with database.statements(command.tenant_id) as connection:
        return await find_property(connection, command.property_id)


async def events_of(database: Database, command: CreateProperty) -> list[dict[str, Any]]:
    async with database.statements(command.tenant_id) as connection:
        return await event_store.of_aggregate(connection, command.property_id, limit=100)


async def administrator(database: Database, saving: Saving, tenant: str) -> Any:
    """The id of an account that the operator has made an administrator."""
    user_id = await saving.registered(tenant)
    async with database.transaction(tenant) as tx:
        await tx.execute(update(users).where(users.c.user_id == user_id).values(role=UserRole.ADMIN.value))
    return user_id


async def refusal_of(saving: Saving, command: Command) -> str:
    with pytest.raises(ApplicationError) as refusal:
        await saving.property(command)
    assert refusal.value.non_retryable
    assert refusal.value.type
    return refusal.value.type


async def test_saved_property_is_a_row_an_event_and_a_record(database: Database, saving: Saving, tenant: str) -> None:
    owner = await saving.registered(tenant)
    command = create_property(
        tenant, owner, amenities=["Lift"], contactPhone="9848022338", latitude=17.4, longitude=78.4
    )

    saved = await saving.property(command)

    row = await row_of(database, command)
    assert row is not None
    assert row.model_dump(mode="json", by_alias=True) == saving.resource(saved)
    [message] = await events_of(database, command)
    async with database.transaction(tenant) as tx:
        recorded = await event_store.recorded_command(tx, command.command_id)
    assert (message["eventType"], message["version"]) == ("PROPERTY_CREATED", 1)
    assert message["eventId"] == str(saved.events[0].event_id)
    assert message["data"]["contactPhone"].keys() == {"sealed"}
    assert recorded is not None
    assert recorded.status == "COMPLETED"
    assert "98480" not in str(recorded.answer)
    assert "98480" not in str(saved)


@pytest.mark.parametrize("what", ["sealed by another key", "of another type", "of no command", "without an id", "null"])
async def test_command_that_cannot_be_read_fails_for_good(
    database: Database, store: CommandStore, keyring: Keyring, saving: Saving, tenant: str, what: str
) -> None:
    command = create_property(tenant, await saving.registered(tenant), contactPhone="9848022338")
    sealed: dict[str, Any] = keyring.seal_in_transit(command, command.command_id)
    inputs: dict[str, Any] = {
        "sealed by another key": Keyring(b"another" * 5).seal_in_transit(command, command.command_id),
        "of another type": {**sealed, "type": "demolish-property"},
        "of no command": {"commandId": str(command.command_id)},
        "without an id": {**sealed, "commandId": 7},
        "null": None,
    }
    before = await rows(database, tenant)

    with pytest.raises(ApplicationError, match="the command cannot be read") as failure:
        await Properties(store).save_property(inputs[what])

    assert (failure.value.type, failure.value.non_retryable) == (FAILED, True)
    assert "98480" not in str(failure.value)
    assert await rows(database, tenant) == before


@pytest.mark.parametrize("fingerprint", ["x" * 65, "nul\x00"])
async def test_command_with_a_value_that_postgres_rejects_fails_for_good(
    database: Database, saving: Saving, tenant: str, fingerprint: str
) -> None:
    command = create_property(tenant, await saving.registered(tenant), contactPhone="9848022338")
    before = await rows(database, tenant)

    with pytest.raises(ApplicationError, match="22") as failure:
        await saving.property(command.model_copy(update={"fingerprint": fingerprint}))

    assert (failure.value.type, failure.value.non_retryable) == (FAILED, True)
    assert "98480" not in str(failure.value)
    assert await rows(database, tenant) == before


async def test_property_saved_twice_is_saved_once_and_answered_the_same(
    database: Database, saving: Saving, tenant: str
) -> None:
    owner = await saving.registered(tenant)
    command = create_property(tenant, owner, contactName="Lakshmi Devi")
    before = await rows(database, tenant)

    first = await saving.property(command)
    again = await saving.property(command)

    assert saving.answer(again) == saving.answer(first)
    assert list(saving.resource(again)) == list(saving.resource(first))
    assert await rows(database, tenant) == {table: count + 1 for table, count in before.items()}


async def test_property_saved_by_several_workers_at_once_is_saved_once(
    database: Database, saving: Saving, tenant: str
) -> None:
    owner = await saving.registered(tenant)
    command = create_property(tenant, owner, contactName="Lakshmi Devi")

    answers = await asyncio.gather(*(saving.property(command) for _ in range(5)))

    # The others violate a unique key, and then read the recorded answer.
    assert [saving.answer(answer) for answer in answers] == [saving.answer(answers[0])] * 5
    assert (await rows(database, tenant))["property_management.properties"] == 1


async def test_command_without_an_account_is_refused_and_the_refusal_is_recorded(
    database: Database, saving: Saving, tenant: str
) -> None:
    command = create_property(tenant, new_id())

    for _ in range(2):
        assert await refusal_of(saving, command) == "account-closed"

    assert await rows(database, tenant) == dict.fromkeys(TABLES, 0) | {"user_history.commands": 1}


async def test_suspended_owner_is_refused(database: Database, saving: Saving, tenant: str) -> None:
    owner = await saving.registered(tenant)
    async with database.transaction(tenant) as tx:
        await tx.execute(users.update().where(users.c.user_id == owner).values(status="SUSPENDED"))

    with pytest.raises(ApplicationError, match="suspended"):
        await saving.property(create_property(tenant, owner))


async def test_user_saved_twice_is_saved_once(database: Database, saving: Saving, tenant: str) -> None:
    command = register_user(tenant, phoneNumber="9848022338")

    first = await saving.user(command)
    again = await saving.user(command)

    assert saving.answer(again) == saving.answer(first)
    async with database.transaction(tenant) as tx:
        [message] = await event_store.of_aggregate(tx, command.user_id, limit=10)
        assert len(list(await tx.execute(select(users)))) == 1
    assert message["data"]["email"].keys() == message["data"]["phoneNumber"].keys() == {"sealed"}


async def test_role_changed_twice_is_changed_once(database: Database, saving: Saving, tenant: str) -> None:
    user_id = await saving.registered(tenant, phoneNumber="9848022338")
    command = ChangeRole(
        command_id=new_id(),
        tenant_id=tenant,
        user_id=user_id,
        issued_at=create_property(tenant, user_id).issued_at,
        role=UserRole.ADMIN,
    )

    first = await saving.user(command)
    again = await saving.user(command)

    assert saving.answer(again) == saving.answer(first)
    assert (first.version, [event.event_type for event in first.events]) == (2, ["USER_ROLE_CHANGED"])
    async with database.statements(tenant) as connection:
        user = await find_user(connection, user_id)
    assert user is not None
    assert user.model_dump(mode="json", by_alias=True) == saving.resource(first)
    assert (user.role, user.version, user.phone_number) == (UserRole.ADMIN, 2, "+919848022338")


@pytest.mark.parametrize(
    ("same", "code", "field"),
    [("email", "email-taken", "email"), ("username", "username-taken", "username")],
)
async def test_name_that_is_taken_is_refused(saving: Saving, tenant: str, same: str, code: str, field: str) -> None:
    first = register_user(tenant)
    await saving.user(first)
    taken = getattr(first.account, same).upper()

    with pytest.raises(ApplicationError) as refusal:
        await saving.user(register_user(tenant, **{same: taken}))

    assert (refusal.value.type, refusal.value.details[0]) == (code, field)


Seal = Callable[[Command], SealedCommand]


def namesake(user: RegisterUser) -> RegisterUser:
    """Another registration with the same user id, and an unused username and e-mail address."""
    other = {"username": f"other-{user.account.username}", "email": f"other-{user.account.email}"}
    return user.model_copy(update={"command_id": new_id(), "account": user.account.model_copy(update=other)})


@pytest.mark.parametrize(
    ("broken", "text"),
    [
        (lambda user, seal: seal(namesake(user)), "duplicate key value"),
        (lambda user, seal: {**seal(user), "passwordHash": None}, "validation error"),
        (lambda user, seal: {**seal(user), "tenantId": "t" * 64}, "SQLSTATE 22001"),
        (lambda user, seal: {**seal(user), "userId": user.account.email}, "validation error"),
        (lambda user, seal: {**seal(user), "commandId": str(new_id())}, "sealed with another key, or altered"),
    ],
    ids=["unique key", "null", "too long", "wrong type", "sealed for another command"],
)
async def test_error_of_a_save_contains_no_value_of_the_row(
    saving: Saving,
    store: CommandStore,
    keyring: Keyring,
    tenant: str,
    broken: Callable[[RegisterUser, Seal], SealedCommand],
    text: str,
) -> None:
    command = register_user(tenant)
    await saving.user(command)
    sealed = broken(command, lambda sent: keyring.seal_in_transit(sent, sent.command_id))

    with pytest.raises(Exception, match=r".") as raised:
        await Users(store, keyring).save_user(sealed)

    failure, converter = Failure(), pydantic_data_converter
    converter.failure_converter.to_failure(raised.value, converter.payload_converter, failure)
    texts = str(failure) + "".join(traceback.format_exception(raised.value))
    assert text in texts
    assert command.account.email not in texts
    assert command.password_hash not in texts


async def test_same_name_in_another_tenant_is_accepted(saving: Saving) -> None:
    names = {"username": "ravi-of-two-tenants", "email": "ravi-of-two-tenants@example.com"}

    for tenant in ("tenant-one", "tenant-two"):
        assert await saving.registered(tenant, **names)


async def test_second_command_for_a_property_that_exists_changes_nothing(
    database: Database, saving: Saving, tenant: str
) -> None:
    command = await saving.listed(tenant)
    rival = command.model_copy(
        update={"command_id": new_id(), "details": PropertyDetails.model_validate(listing(price=1))}
    )
    before = await rows(database, tenant)

    saved = await saving.property(rival)

    assert (saved.version, saved.events) == (1, ())
    assert saving.resource(saved)["price"] == command.details.price
    assert await rows(database, tenant) == before | {"user_history.commands": before["user_history.commands"] + 1}


OTHER = {"title": "Villa by the lake", "location": "Kokapet", "contactPhone": "9848022339"}
CHANGES: dict[str, tuple[Changing, list[str], dict[str, Any]]] = {
    "update": (
        lambda made: change(UpdateProperty, made, details=PropertyDetails.model_validate(listing(**OTHER, price=9))),
        ["PROPERTY_UPDATED", "PROPERTY_PRICE_CHANGED"],
        {**OTHER, "contactPhone": "+919848022339", "contactName": None, "price": 9, "previousPrice": 8_500_000},
    ),
    "patch": (
        lambda made: change(PatchProperty, made, changes=PropertyPatch.model_validate({"contactName": None})),
        ["PROPERTY_UPDATED"],
        {"contactName": None, "contactPhone": "+919848022338", "title": "3BHK Apartment in Gachibowli"},
    ),
    "price": (
        lambda made: change(PatchProperty, made, changes=PropertyPatch.model_validate({"price": 7})),
        ["PROPERTY_PRICE_CHANGED"],
        {"price": 7, "previousPrice": 8_500_000, "contactName": "Lakshmi Devi"},
    ),
    "status": (
        lambda made: change(ChangePropertyStatus, made, status=PropertyStatus.PAUSED, reason="Under repair"),
        ["PROPERTY_STATUS_CHANGED"],
        {"status": "PAUSED", "contactName": "Lakshmi Devi"},
    ),
}
FLAGS: dict[str, tuple[type[FeatureProperty] | type[VerifyProperty], str]] = {
    "feature": (FeatureProperty, "isFeatured"),
    "verify": (VerifyProperty, "isVerified"),
}


@pytest.mark.parametrize("kind", CHANGES)
async def test_change_is_a_row_and_events_and_has_the_same_answer_when_it_is_repeated(
    database: Database, saving: Saving, tenant: str, kind: str
) -> None:
    changing, event_types, expected = CHANGES[kind]
    made = await saving.listed(tenant, contactName="Lakshmi Devi", contactPhone="9848022338")
    command, before = changing(made), await rows(database, tenant)

    first = await saving.property(command)
    again = await saving.property(command)

    state = saving.resource(first)
    assert {name: state[name] for name in expected} == expected
    assert saving.answer(again) == saving.answer(first)
    row = await row_of(database, made)
    assert row is not None
    assert row.model_dump(mode="json", by_alias=True) == state
    stored = await events_of(database, made)
    assert [event["eventType"] for event in stored] == ["PROPERTY_CREATED", *event_types]
    assert [event["eventId"] for event in stored[1:]] == [str(event.event_id) for event in first.events]
    assert first.version == stored[-1]["version"] == 1 + len(event_types)
    times = [event.timestamp for event in first.events]
    assert times == sorted(set(times))  # a history shows them in their order
    assert "98480" not in str(stored)
    assert await rows(database, tenant) == before | {
        "user_history.event_store": before["user_history.event_store"] + len(event_types),
        "user_history.commands": before["user_history.commands"] + 1,
        # Those who have the listing as favourite are notified of a lower price.
        "notification.notices": before["notification.notices"] + ("PROPERTY_PRICE_CHANGED" in event_types),
    }


@pytest.mark.parametrize("kind", FLAGS)
async def test_flag_set_by_an_administrator_is_a_row_and_an_event_and_has_the_same_answer_when_it_is_repeated(
    database: Database, saving: Saving, tenant: str, kind: str
) -> None:
    command_type, field = FLAGS[kind]
    made, admin = await saving.listed(tenant), await administrator(database, saving, tenant)
    command = change(command_type, made, by=admin, value=True)

    first = await saving.property(command)
    again = await saving.property(command)
    removed = await saving.property(change(command_type, made, by=admin, value=False))

    assert saving.resource(first)[field] is True
    assert saving.answer(again) == saving.answer(first)
    assert saving.resource(removed)[field] is False
    row = await row_of(database, made)
    assert row is not None
    assert (row.is_featured, row.is_verified, row.version) == (False, False, 3)
    assert [event["data"].get("changed") for event in await events_of(database, made)] == [None, [field], [field]]


@pytest.mark.parametrize("kind", FLAGS)
async def test_owner_cannot_set_a_flag(saving: Saving, tenant: str, kind: str) -> None:
    made = await saving.listed(tenant)

    assert await refusal_of(saving, change(FLAGS[kind][0], made, value=True)) == "forbidden"


async def test_deleted_listing_has_no_row_and_a_last_event(database: Database, saving: Saving, tenant: str) -> None:
    made = await saving.listed(tenant, contactPhone="9848022338")
    command = change(DeleteProperty, made)

    first = await saving.property(command)
    again = await saving.property(command)

    assert again == first
    assert (first.version, first.resource) == (2, None)
    assert await row_of(database, made) is None
    created, deleted = await events_of(database, made)
    assert (deleted["eventType"], deleted["data"]["title"]) == ("PROPERTY_DELETED", created["data"]["title"])
    assert await refusal_of(saving, change(DeleteProperty, made)) == "not-found"


async def test_first_publication_of_a_draft_enqueues_its_notice(
    database: Database, saving: Saving, tenant: str
) -> None:
    owner = await saving.registered(tenant)
    draft = create_property(tenant, owner).model_copy(update={"status": PropertyStatus.DRAFT})
    await saving.property(draft)
    listed = select(notices).where(notices.c.kind == "LISTING_CONFIRMED")
    async with database.transaction(tenant) as tx:
        before = (await tx.execute(listed)).all()

    publishing = change(ChangePropertyStatus, draft, status=PropertyStatus.ACTIVE)
    for _ in range(2):
        saved = await saving.property(publishing)

    async with database.transaction(tenant) as tx:
        [notice] = await tx.execute(listed)
    assert before == []
    assert (notice.event_id, notice.audience_id, notice.audience) == (
        saved.events[0].event_id,
        owner,
        "user",
    )


def priced(made: CreateProperty, price: int, **more: Any) -> PatchProperty:
    return change(PatchProperty, made, changes=PropertyPatch.model_validate({"price": price}), **more)


async def test_one_of_several_changes_of_the_same_version_is_saved(
    database: Database, saving: Saving, tenant: str
) -> None:
    made = await saving.listed(tenant)
    commands = [priced(made, n + 1, expected_versions=(1,)) for n in range(5)]

    outcomes = await asyncio.gather(*(saving.property(command) for command in commands), return_exceptions=True)

    [saved] = [outcome for outcome in outcomes if isinstance(outcome, Saved)]
    refused = [outcome for outcome in outcomes if isinstance(outcome, ApplicationError)]
    assert [error.type for error in refused] == ["version-conflict"] * 4
    row = await row_of(database, made)
    assert row is not None
    assert (row.version, row.price) == (saved.version, saving.resource(saved)["price"])
    # The refusals are recorded.
    for command, outcome in zip(commands, outcomes, strict=True):
        if outcome is not saved:
            assert await refusal_of(saving, command) == "version-conflict"


async def test_changes_that_accept_any_version_are_saved_one_after_the_other(
    database: Database, saving: Saving, tenant: str
) -> None:
    made = await saving.listed(tenant)
    prices = [1, 2, 3, 4]

    saved = await asyncio.gather(*(saving.property(priced(made, price)) for price in prices))

    assert sorted(one.version for one in saved) == [2, 3, 4, 5]
    in_order = sorted(saved, key=lambda one: one.version)
    stored = await events_of(database, made)
    assert [event["data"]["price"] for event in stored[1:]] == [saving.resource(one)["price"] for one in in_order]
    assert [event["data"]["previousPrice"] for event in stored[1:]] == [event["data"]["price"] for event in stored[:-1]]
    row = await row_of(database, made)
    assert row is not None
    assert (row.version, row.price) == (5, stored[-1]["data"]["price"])


async def test_change_of_another_version_is_refused_and_one_of_several_versions_is_not(
    saving: Saving, tenant: str
) -> None:
    made = await saving.listed(tenant)

    assert await refusal_of(saving, priced(made, 1, expected_versions=(2, 3))) == "version-conflict"
    assert await refusal_of(saving, priced(made, 1, expected_versions=())) == "version-conflict"
    assert (await saving.property(priced(made, 1, expected_versions=(7, 1)))).version == 2


@pytest.mark.parametrize(("status", "code"), [("ACTIVE", "forbidden"), ("DRAFT", "not-found")])
async def test_stranger_cannot_change_a_listing_and_does_not_find_a_draft(
    database: Database, saving: Saving, tenant: str, status: str, code: str
) -> None:
    stranger = await saving.registered(tenant)
    made = create_property(tenant, await saving.registered(tenant))
    made = made.model_copy(update={"status": PropertyStatus(status)})
    await saving.property(made)

    for command in (
        priced(made, 1, by=stranger),
        change(DeleteProperty, made, by=stranger),
        change(FeatureProperty, made, by=stranger, value=True),
        change(ChangePropertyStatus, made, by=stranger, status=PropertyStatus.WITHDRAWN),
        # The check of the owner comes before that of the version.
        priced(made, 1, by=stranger, expected_versions=(9,)),
    ):
        assert await refusal_of(saving, command) == code

    assert len(await events_of(database, made)) == 1


async def test_administrator_changes_a_listing_whose_contact_stays_sealed_by_its_owners_key(
    database: Database, saving: Saving, keyring: Keyring, tenant: str
) -> None:
    made = await saving.listed(tenant, contactPhone="9848022338", contactName="Lakshmi Devi")
    admin = await administrator(database, saving, tenant)

    saved = await saving.property(priced(made, 1, by=admin))
    again = await saving.property(priced(made, 2, by=admin).model_copy(update={"command_id": saved.command_id}))

    async with database.statements(tenant) as connection:
        owners_key = await wrapped_key(connection, made.user_id)
        admins_key = await wrapped_key(connection, admin)
    [_, event] = await events_of(database, made)
    opened = keyring.unseal(event["data"], owners_key, saved.events[0].event_id)
    assert (opened["contactPhone"], opened["contactName"]) == ("+919848022338", "Lakshmi Devi")
    with pytest.raises(ValueError, match="another key"):
        keyring.unseal(event["data"], admins_key, saved.events[0].event_id)
    assert (event["userId"], event["data"]["ownerId"]) == (str(admin), str(made.user_id))
    assert saving.resource(saved)["contactPhone"] == "+919848022338"
    # The recorded answer opens with the owner's key as well.
    assert saving.answer(again) == saving.answer(saved)


async def test_command_that_changes_nothing_stores_no_event_and_answers_the_same_version(
    database: Database, saving: Saving, tenant: str
) -> None:
    made = await saving.listed(tenant, contactPhone="9848022338")
    before = await rows(database, tenant)
    unchanging = [
        change(UpdateProperty, made, details=made.details),
        priced(made, made.details.price, expected_versions=(1,)),
        change(ChangePropertyStatus, made, status=PropertyStatus.ACTIVE),
    ]

    for command in unchanging:
        first, again = await saving.property(command), await saving.property(command)
        assert (first.version, first.events) == (1, ())
        assert saving.resource(first)["contactPhone"] == "+919848022338"
        assert saving.answer(again) == saving.answer(first)

    assert await rows(database, tenant) == before | {
        "user_history.commands": before["user_history.commands"] + len(unchanging)
    }


class RefusesLate(CommandStore):
    """Awaits `meanwhile` before it records a refusal."""

    meanwhile: Callable[[], Awaitable[object]]

    async def _record_refusal(self, command: Command, refusal: Refusal) -> bool:
        await self.meanwhile()
        return await super()._record_refusal(command, refusal)


async def test_refused_attempt_returns_the_answer_that_another_attempt_has_recorded(
    database: Database, saving: Saving, keyring: Keyring, tenant: str
) -> None:
    """An attempt that timed out may still be running while the next one finds the account suspended."""
    made = await saving.listed(tenant)
    command = priced(made, 1)

    async def set_status(status: str) -> None:
        async with database.transaction(tenant) as tx:
            await tx.execute(update(users).where(users.c.user_id == made.user_id).values(status=status))

    async def other_attempt() -> None:
        await set_status("ACTIVE")
        await saving.property(command)

    late = RefusesLate(database, keyring, lambda _: None)
    late.meanwhile = other_attempt
    await set_status("SUSPENDED")

    answer = await Saving(late, keyring).property(command)

    assert saving.answer(answer) == saving.answer(await saving.property(command))
    assert answer.version == 2


@pytest.mark.parametrize("price", [1, 8_500_000], ids=["a change", "no change"])
async def test_command_sent_again_with_another_fingerprint_is_refused(
    database: Database, saving: Saving, tenant: str, price: int
) -> None:
    made = await saving.listed(tenant)
    command = priced(made, price, fingerprint="a" * 64)
    first = await saving.property(command)

    other = command.model_copy(update={"fingerprint": "b" * 64})
    assert await refusal_of(saving, other) == "idempotency-key-reused"

    assert saving.answer(await saving.property(command)) == saving.answer(first)


async def test_repeated_command_gives_the_first_answer_after_later_changes(saving: Saving, tenant: str) -> None:
    made = await saving.listed(tenant, contactName="Lakshmi Devi")
    command = priced(made, 1, expected_versions=(1,))
    first = await saving.property(command)
    await saving.property(priced(made, 2))
    after_a_change = await saving.property(command)
    await saving.property(change(DeleteProperty, made))

    after_the_end = await saving.property(command)

    assert saving.answer(after_a_change) == saving.answer(after_the_end) == saving.answer(first)


async def test_failed_event_leaves_no_row(database: Database, saving: Saving, tenant: str) -> None:
    """Creating a deleted property again violates the unique version of its first event, and inserts no row."""
    made = await saving.listed(tenant)
    await saving.property(change(DeleteProperty, made))
    before = await rows(database, tenant)

    with pytest.raises(Exception, match="event_store_version_key"):
        await saving.property(made.model_copy(update={"command_id": new_id()}))

    assert await rows(database, tenant) == before
    async with database.transaction(tenant) as tx:
        assert list(await tx.execute(select(properties))) == []
