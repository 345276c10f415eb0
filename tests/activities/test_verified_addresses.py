"""Listings of a portal that requires a verified e-mail address of their owners."""

from datetime import UTC, datetime

import pytest
from sqlalchemy import text, update
from temporalio.exceptions import ApplicationError

from activities.saving import CommandStore
from adapters.postgres import Database
from adapters.sealing import Keyring, token_hash
from adapters.tables import users
from domain import ids
from domain.command import Command
from domain.property_commands import ChangePropertyStatus, CreateProperty, FeatureProperty
from domain.property_status import PropertyStatus
from domain.roles import UserRole
from domain.user_commands import VerifyEmail
from tests.activities.accounts import Saving, change
from tests.samples import create_property, new_id, register_user


@pytest.fixture
def strict(store: CommandStore, keyring: Keyring, tenant: str) -> Saving:
    """Saves the commands of a portal that requires verified addresses."""
    return Saving(store, keyring, verified_email_tenants=(tenant,))


async def refusal_of(saving: Saving, command: Command) -> str | None:
    with pytest.raises(ApplicationError) as refusal:
        await saving.property(command)
    return refusal.value.type


async def draft(saving: Saving, tenant: str) -> CreateProperty:
    """A draft of a new owner, whose address is not verified."""
    command = create_property(tenant, await saving.registered(tenant))
    drafted = command.model_copy(update={"status": PropertyStatus.DRAFT})
    await saving.property(drafted)
    return drafted


async def verify(saving: Saving, keyring: Keyring, tenant: str) -> CreateProperty:
    """A draft of a new owner, whose address is verified by the link of the mail."""
    registered = register_user(tenant)
    await saving.user(registered)
    used = token_hash(keyring.link_token(ids.event_id(registered.command_id, 1))).hex()
    who = {"tenant_id": tenant, "user_id": registered.user_id, "issued_at": datetime.now(UTC)}
    await saving.user(VerifyEmail(command_id=new_id(), token_hash=used, **who))
    drafted = create_property(tenant, registered.user_id).model_copy(update={"status": PropertyStatus.DRAFT})
    await saving.property(drafted)
    return drafted


async def test_listing_of_an_unverified_owner_is_refused_and_the_refusal_is_recorded(
    database: Database, strict: Saving, tenant: str
) -> None:
    command = create_property(tenant, await strict.registered(tenant))

    for _ in range(2):
        assert await refusal_of(strict, command) == "email-not-verified"

    async with database.statements(tenant) as connection:
        count = await connection.execute(text("SELECT count(*) FROM property_management.properties"))
        assert count.scalar_one() == 0


async def test_draft_becomes_public_once_its_owner_has_verified(strict: Saving, keyring: Keyring, tenant: str) -> None:
    unverified, verified = await draft(strict, tenant), await verify(strict, keyring, tenant)
    publish = change(ChangePropertyStatus, verified, status=PropertyStatus.ACTIVE)

    refused = change(ChangePropertyStatus, unverified, status=PropertyStatus.ACTIVE)
    assert await refusal_of(strict, refused) == "email-not-verified"
    first, again = await strict.property(publish), await strict.property(publish)

    assert strict.answer(again) == strict.answer(first)
    assert strict.resource(first)["status"] == "ACTIVE"


async def test_address_of_the_owner_counts_and_not_that_of_the_administrator(
    database: Database, strict: Saving, keyring: Keyring, tenant: str
) -> None:
    unverified, verified = await draft(strict, tenant), await verify(strict, keyring, tenant)
    admin = await strict.registered(tenant)
    as_admin = {"role": UserRole.ADMIN.value, "email_verified": True}
    async with database.statements(tenant) as connection:
        await connection.execute(update(users).where(users.c.user_id == admin).values(**as_admin))

    publish = change(ChangePropertyStatus, unverified, by=admin, status=PropertyStatus.ACTIVE)
    assert await refusal_of(strict, publish) == "email-not-verified"
    assert (await strict.property(change(FeatureProperty, unverified, by=admin, value=True))).events

    async with database.statements(tenant) as connection:
        await connection.execute(update(users).where(users.c.user_id == admin).values(email_verified=False))
    assert (
        await strict.property(change(ChangePropertyStatus, verified, by=admin, status=PropertyStatus.ACTIVE))
    ).events


async def test_other_portals_do_not_require_it(store: CommandStore, keyring: Keyring, tenant: str) -> None:
    saving = Saving(store, keyring, verified_email_tenants=("another",))

    saved = await saving.property(create_property(tenant, await saving.registered(tenant)))

    assert saving.resource(saved)["status"] == "ACTIVE"
