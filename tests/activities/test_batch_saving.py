"""Batches of commands on listings: each as a single one would be, once, and all or nothing."""

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError

from activities.batch_saving import BatchSaved, BatchStore
from adapters import event_store
from adapters.batch_decisions import Outcome
from adapters.current_state import find_property
from adapters.postgres import Database
from adapters.sealing import Keyring
from adapters.tables import commands as recorded_commands
from adapters.tables import notices, users
from domain.errors import AccountClosed, EmailNotVerified, InvalidChange, ListingClosed, ListingDeleted
from domain.imports import CreateOrChange
from domain.property import PropertyDetails, PropertyPatch
from domain.property_commands import ChangePropertyStatus, CreateProperty, DeleteProperty, PatchProperty
from domain.property_status import PropertyStatus
from domain.user import UserStatus
from tests.activities.accounts import Saving, change
from tests.platform import until
from tests.samples import create_property, new_id, new_tenant


def either(create: CreateProperty, **given: Any) -> CreateOrChange:
    """A new listing, or the change of one that exists to what is `given`."""
    changes = PropertyPatch.model_validate(given or {"title": create.details.title})
    of = {name: getattr(create, name) for name in ("command_id", "tenant_id", "user_id", "issued_at", "property_id")}
    return CreateOrChange(create, PatchProperty(**of, changes=changes))


def again(listed: CreateProperty, **given: Any) -> CreateOrChange:
    """Another command on a listing that exists."""
    return either(listed.model_copy(update={"command_id": new_id(), "issued_at": datetime.now(UTC)}), **given)


@pytest.fixture
def batch_store(keyring: Keyring) -> BatchStore:
    return BatchStore(keyring)


async def save(database: Database, store: BatchStore, *commands: CreateOrChange) -> BatchSaved:
    first = commands[0].create
    async with database.transaction(first.tenant_id) as tx:
        return await store.save(tx, first.tenant_id, first.user_id, commands)


async def events_of(database: Database, tenant: str, property_id: UUID) -> list[dict[str, Any]]:
    async with database.statements(tenant) as connection:
        return await event_store.of_aggregate(connection, property_id, limit=100)


async def count(database: Database, tenant: str, table: str) -> int:
    async with database.statements(tenant) as connection:
        found: int = (await connection.execute(text(f"SELECT count(*) FROM {table}"))).scalar_one()
        return found


async def test_listing_of_a_batch_is_stored_as_a_single_one(
    database: Database, saving: Saving, batch_store: BatchStore, keyring: Keyring, tenant: str
) -> None:
    owner = await saving.registered(tenant)
    more = {"amenities": ["Lift", "Pool"], "contactPhone": "9848012345", "latitude": 17.44, "longitude": 78.35}
    single = create_property(tenant, owner, **more)
    batched = single.model_copy(update={"command_id": new_id(), "property_id": new_id()})
    await saving.property(single)

    saved = await save(database, batch_store, either(batched))

    assert saved.outcomes == {batched.command_id: Outcome.SAVED}
    assert saved.changed == [batched.property_id]
    async with database.statements(tenant) as connection:
        one, other = [await find_property(connection, each.property_id) for each in (single, batched)]
        assert one
        assert other == one.model_copy(update={"id": batched.property_id})
        rows = select(*(recorded_commands.c[name] for name in ("type", "user_id", "person_id", "status", "started_at")))
        [first] = await connection.execute(rows.where(recorded_commands.c.command_id == single.command_id))
        [second] = await connection.execute(rows.where(recorded_commands.c.command_id == batched.command_id))
        assert first == second
    [event], [expected] = [await events_of(database, tenant, each.property_id) for each in (batched, single)]
    assert event["eventId"] != expected["eventId"]
    key = await key_of(database, tenant, owner)
    for message in (event, expected):
        message["data"] = keyring.unseal(message["data"], key, UUID(message["eventId"]))
        for name in ("eventId", "aggregateId", "commandId"):
            del message[name]
        del message["data"]["propertyId"]
    assert event == expected


async def key_of(database: Database, tenant: str, user_id: UUID) -> bytes | None:
    async with database.statements(tenant) as connection:
        query = text("SELECT wrapped_key FROM user_management.person_keys WHERE user_id = :user_id")
        key: bytes | None = (await connection.execute(query, {"user_id": user_id})).scalar_one()
        return key


async def test_batch_that_is_repeated_saves_nothing_twice(
    database: Database, saving: Saving, batch_store: BatchStore, tenant: str
) -> None:
    owner = await saving.registered(tenant)
    commands = [either(create_property(tenant, owner)) for _ in range(3)]
    await save(database, batch_store, *commands[:2])
    before = await count(database, tenant, "user_history.event_store")

    repeated = await save(database, batch_store, *commands)

    assert list(repeated.outcomes.values()) == [Outcome.REPEATED, Outcome.REPEATED, Outcome.SAVED]
    assert repeated.changed == [commands[2].property_id]
    assert await count(database, tenant, "user_history.event_store") == before + 1
    assert await count(database, tenant, "property_management.properties") == 3


async def test_existing_listing_changes_only_in_what_is_given(
    database: Database, saving: Saving, batch_store: BatchStore, tenant: str
) -> None:
    listed = await saving.listed(tenant, bedrooms=3, areaSqft=1500)
    command = again(listed, price=9_000_000, title="Corner flat in Gachibowli")

    saved = await save(database, batch_store, command)

    assert saved.outcomes[command.command_id] is Outcome.UPDATED
    async with database.statements(tenant) as connection:
        found = await find_property(connection, listed.property_id)
    assert found
    assert (found.price, found.title, found.bedrooms, found.area_sqft) == (
        9_000_000,
        "Corner flat in Gachibowli",
        3,
        1500,
    )
    events = await events_of(database, tenant, listed.property_id)
    kinds = [event["eventType"] for event in events]
    assert kinds == ["PROPERTY_CREATED", "PROPERTY_UPDATED", "PROPERTY_PRICE_CHANGED"]
    assert [event["version"] for event in events] == [1, 2, 3]


async def test_change_of_nothing_is_not_recorded(
    database: Database, saving: Saving, batch_store: BatchStore, tenant: str
) -> None:
    listed = await saving.listed(tenant)
    before = await count(database, tenant, "user_history.commands")

    saved = await save(database, batch_store, again(listed))

    assert list(saved.outcomes.values()) == [Outcome.UNCHANGED]
    assert saved.changed == []
    assert await count(database, tenant, "user_history.commands") == before


async def test_refused_listings_do_not_hold_up_the_others(
    database: Database, saving: Saving, batch_store: BatchStore, tenant: str
) -> None:
    sold = await saving.listed(tenant)
    await saving.property(change(ChangePropertyStatus, sold, status=PropertyStatus.SOLD))
    deleted, high = [create_property(tenant, sold.user_id, totalFloors=5) for _ in range(2)]
    for listed in (deleted, high):
        await saving.property(listed)
    await saving.property(change(DeleteProperty, deleted))
    refused = [again(sold, price=1), again(deleted, price=1), again(high, floorNumber=9)]
    new = either(create_property(tenant, sold.user_id))

    saved = await save(database, batch_store, *refused, new)

    assert [type(saved.refusals[one.command_id]) for one in refused] == [ListingClosed, ListingDeleted, InvalidChange]
    assert saved.outcomes[new.command_id] is Outcome.SAVED
    assert saved.changed == [new.property_id]

    await saving.property(change(ChangePropertyStatus, sold, status=PropertyStatus.ACTIVE))
    assert (await save(database, batch_store, refused[0])).outcomes[refused[0].command_id] is Outcome.UPDATED


async def test_owner_is_not_mailed_about_each_listing_but_favourites_are_about_a_lower_price(
    database: Database, saving: Saving, batch_store: BatchStore, tenant: str
) -> None:
    listed = await saving.listed(tenant)
    cheaper, new = again(listed, price=8_000_000), either(create_property(tenant, listed.user_id))

    saved = await save(database, batch_store, cheaper, new)

    assert [one.command_id for one in saved.noticed] == [cheaper.command_id]
    async with database.statements(tenant) as connection:
        of = notices.c.command_id.in_([cheaper.command_id, new.command_id])
        rows = [tuple(row) for row in await connection.execute(select(notices.c.kind, notices.c.audience).where(of))]
    assert rows == [("PRICE_DROPPED", "favorites")]


async def test_command_that_is_saved_in_the_meantime_is_a_conflict_and_nothing_is_saved(
    database: Database, saving: Saving, batch_store: BatchStore, tenant: str
) -> None:
    listed = await saving.listed(tenant)
    new = either(create_property(tenant, listed.user_id))
    single = change(PatchProperty, listed, changes=PropertyPatch.model_validate({"price": 7_000_000}))
    other = again(listed, price=8_000_000)

    async def both() -> None:
        async with database.transaction(tenant) as tx:
            # The first batch is not committed when the single command is decided.
            await batch_store.save(tx, tenant, listed.user_id, [other, new])
            waiting = asyncio.create_task(saving.property(single))
            done, _ = await asyncio.wait({waiting}, timeout=0.2)
            assert not done
        await waiting

    await both()

    versions = [event["version"] for event in await events_of(database, tenant, listed.property_id)]
    assert versions == [1, 2, 3]

    stale = again(listed, price=6_000_000)
    async with database.transaction(tenant) as first:
        await batch_store.save(first, tenant, listed.user_id, [stale])
        second = again(listed, price=5_000_000)
        waiting = asyncio.create_task(
            save(database, batch_store, second, either(create_property(tenant, listed.user_id)))
        )

        async def is_held() -> bool:
            blocked = text("SELECT count(*) FROM pg_stat_activity WHERE pg_backend_pid() = ANY(pg_blocking_pids(pid))")
            return bool((await first.execute(blocked)).scalar_one())

        await until(is_held)
    with pytest.raises(IntegrityError):
        await waiting
    assert await count(database, tenant, "property_management.properties") == 2


async def test_value_that_postgres_does_not_take_fails_the_whole_batch(
    database: Database, saving: Saving, batch_store: BatchStore, tenant: str
) -> None:
    owner = await saving.registered(tenant)
    good, bad = create_property(tenant, owner), create_property(tenant, owner)
    details = PropertyDetails.model_construct(**{**dict(bad.details), "description": "NUL \x00 in a text"})

    with pytest.raises(DBAPIError):
        await save(database, batch_store, either(good), either(bad.model_copy(update={"details": details})))

    assert await count(database, tenant, "property_management.properties") == 0


async def test_account_that_is_closed_saves_nothing(
    database: Database, saving: Saving, batch_store: BatchStore, tenant: str
) -> None:
    listed = await saving.listed(tenant)
    async with database.transaction(tenant) as tx:
        await tx.execute(
            update(users).where(users.c.user_id == listed.user_id).values(status=UserStatus.SUSPENDED.value)
        )

    with pytest.raises(AccountClosed):
        await save(database, batch_store, again(listed, price=1))


async def test_portal_that_requires_verified_addresses_refuses_each_listing(
    database: Database, saving: Saving, keyring: Keyring, tenant: str
) -> None:
    owner = await saving.registered(tenant)
    command = either(create_property(tenant, owner))

    saved = await save(database, BatchStore(keyring, [tenant]), command)

    assert isinstance(saved.refusals[command.command_id], EmailNotVerified)


async def test_batch_of_another_tenant_finds_neither_user_nor_listing(
    database: Database, saving: Saving, batch_store: BatchStore, tenant: str
) -> None:
    listed = await saving.listed(tenant)
    elsewhere = listed.model_copy(update={"tenant_id": new_tenant(), "command_id": new_id()})

    with pytest.raises(AccountClosed):
        await save(database, batch_store, either(elsewhere))
    assert len(await events_of(database, tenant, listed.property_id)) == 1
