"""Saving: everything or nothing, once for each command, on real Postgres."""

import asyncio
import traceback
from collections.abc import Callable

import pytest
from projections.properties import PropertyPages
from sqlalchemy import select, text
from temporalio.api.failure.v1 import Failure
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ApplicationError

from adapters import event_store
from adapters.postgres import Database
from adapters.sealing import Keyring
from adapters.tables import properties, users
from domain.user import RegisterUser
from tests.activities.accounts import Saving
from tests.samples import create_property, new_id, register_user


async def rows(database: Database, tenant: str) -> dict[str, int]:
    tables = ("property_management.properties", "user_history.event_store", "user_history.commands")
    async with database.transaction(tenant) as tx:
        return {table: (await tx.execute(text(f"SELECT count(*) FROM {table}"))).scalar_one() for table in tables}


async def test_saved_property_is_a_row_an_event_and_a_record(database: Database, saving: Saving, tenant: str) -> None:
    owner = await saving.registered(tenant)
    command = create_property(
        tenant, owner, amenities=["Lift"], contactPhone="9848022338", latitude=17.4, longitude=78.4
    )

    saved = await saving.property(command)

    assert await PropertyPages(database).find(tenant, command.property_id) == saved.property
    async with database.transaction(tenant) as tx:
        [message] = await event_store.of_aggregate(tx, command.property_id, limit=10)
        recorded = await event_store.recorded_command(tx, command.command_id)
    assert (message["eventType"], message["version"]) == ("PROPERTY_CREATED", 1)
    assert message["eventId"] == str(saved.events[0].event_id)
    assert message["data"]["contactPhone"].keys() == {"sealed"}
    assert recorded is not None
    assert recorded.status == "COMPLETED"
    assert "98480" not in str(recorded.answer)


async def test_property_saved_twice_is_saved_once_and_answered_alike(
    database: Database, saving: Saving, tenant: str
) -> None:
    owner = await saving.registered(tenant)
    command = create_property(tenant, owner, contactName="Lakshmi Devi")
    before = await rows(database, tenant)

    first = await saving.property(command)
    again = await saving.property(command)

    assert again == first
    assert await rows(database, tenant) == {table: count + 1 for table, count in before.items()}


async def test_property_saved_by_two_workers_at_once_is_saved_once(
    database: Database, saving: Saving, tenant: str
) -> None:
    owner = await saving.registered(tenant)
    command = create_property(tenant, owner)

    outcomes = await asyncio.gather(*(saving.property(command) for _ in range(5)), return_exceptions=True)
    retried = await saving.property(command)

    # Who loses the race fails on a unique key, is retried by Temporal, and finds the first answer.
    assert [outcome for outcome in outcomes if outcome == retried]
    assert (await rows(database, tenant))["property_management.properties"] == 1


async def test_stranger_is_refused_and_the_refusal_is_kept(database: Database, saving: Saving, tenant: str) -> None:
    command = create_property(tenant, new_id())

    for _ in range(2):
        with pytest.raises(ApplicationError) as refusal:
            await saving.property(command)
        assert (refusal.value.type, refusal.value.non_retryable) == ("OwnerUnknown", True)

    assert await rows(database, tenant) == {
        "property_management.properties": 0,
        "user_history.event_store": 0,
        "user_history.commands": 1,
    }


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

    assert again == first
    async with database.transaction(tenant) as tx:
        [message] = await event_store.of_aggregate(tx, command.user_id, limit=10)
        assert len(list(await tx.execute(select(users)))) == 1
    assert message["data"]["email"].keys() == message["data"]["phoneNumber"].keys() == {"sealed"}


@pytest.mark.parametrize(
    ("same", "code", "field"),
    [("email", "EmailTaken", "email"), ("username", "UsernameTaken", "username")],
)
async def test_name_that_is_taken_is_refused(saving: Saving, tenant: str, same: str, code: str, field: str) -> None:
    first = register_user(tenant)
    await saving.user(first)
    taken = getattr(first.account, same).upper()

    with pytest.raises(ApplicationError) as refusal:
        await saving.user(register_user(tenant, **{same: taken}))

    assert (refusal.value.type, refusal.value.details[0]) == (code, field)


def new_ids() -> dict[str, object]:
    return {"command_id": new_id(), "user_id": new_id()}


@pytest.mark.parametrize(
    ("break_it", "text"),
    [
        (lambda user: register_user(user.tenant_id, email=user.account.email), "users_email_key"),
        (lambda user: user.model_copy(update={**new_ids(), "password_hash": None}), "null value in column"),
        (lambda user: user.model_copy(update={"tenant_id": "t" * 64}), "value too long"),
        (lambda user: user.model_copy(update={"password_hash": [user.password_hash]}), "query argument"),
        (lambda user: user.model_copy(update={"user_id": user.account.email}), "validation error"),
    ],
    ids=["unique key", "null", "too long", "wrong type", "wrong model"],
)
async def test_failure_of_a_save_tells_temporal_nothing_of_the_row(
    saving: Saving,
    keyring: Keyring,
    tenant: str,
    break_it: Callable[[RegisterUser], RegisterUser],
    text: str,
) -> None:
    command = register_user(tenant)
    await saving.user(command)

    with pytest.raises(Exception, match=r".") as raised:
        await saving.user(break_it(command))

    failure, converter = Failure(), pydantic_data_converter
    converter.failure_converter.to_failure(raised.value, converter.payload_converter, failure)
    told = str(failure) + "".join(traceback.format_exception(raised.value))
    assert text in told
    assert command.account.email not in told
    assert command.password_hash not in told


async def test_same_name_in_another_portal_is_free(saving: Saving) -> None:
    names = {"username": "ravi-of-two-portals", "email": "ravi-of-two-portals@example.com"}

    for portal in ("portal-one", "portal-two"):
        assert await saving.registered(portal, **names)


async def test_failed_event_leaves_no_row(database: Database, saving: Saving, tenant: str) -> None:
    owner = await saving.registered(tenant)
    command = create_property(tenant, owner)
    await saving.property(command)
    # Another command that would make the same aggregate fails on its version, and takes its row back.
    rival = command.model_copy(update={"command_id": new_id()})
    before = await rows(database, tenant)

    with pytest.raises(Exception, match="key"):
        await saving.property(rival)

    assert await rows(database, tenant) == before
    async with database.transaction(tenant) as tx:
        assert len(list(await tx.execute(select(properties)))) == 1
