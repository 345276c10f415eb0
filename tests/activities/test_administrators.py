"""Commands of administrators on other accounts: who may send them, what they close, and that one is left."""

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import delete, update
from temporalio.exceptions import ApplicationError

from adapters.current_state import find_user
from adapters.postgres import Database
from adapters.tables import person_keys, users
from domain.command import Command
from domain.roles import UserRole
from domain.user import UserStatus
from domain.user_commands import ChangeRole, ChangeUserStatus
from tests.activities.accounts import Saving
from tests.activities.test_accounts import open_sessions, opened
from tests.samples import new_id, new_tenant


def by(admin: UUID, tenant: str, account: UUID, command: type[Command] = ChangeRole, **fields: Any) -> Any:
    """A command of an administrator: to make the account an AGENT, unless another is given."""
    wanted = fields or {"role": UserRole.AGENT}
    ids = {"command_id": new_id(), "tenant_id": tenant, "user_id": admin, "account_id": account}
    return command(**ids, issued_at=datetime.now(UTC), **wanted)


def suspension(admin: UUID, tenant: str, account: UUID) -> Any:
    return by(admin, tenant, account, ChangeUserStatus, status=UserStatus.SUSPENDED, reason="Spam")


async def set_columns(database: Database, tenant: str, user_id: UUID, **values: Any) -> None:
    async with database.statements(tenant) as connection:
        await connection.execute(update(users).where(users.c.user_id == user_id).values(**values))


async def administrator(database: Database, saving: Saving, tenant: str) -> UUID:
    user_id = await saving.registered(tenant)
    await set_columns(database, tenant, user_id, role="ADMIN")
    return user_id


async def account(database: Database, tenant: str, user_id: UUID) -> tuple[str, str, int]:
    async with database.statements(tenant) as connection:
        user = await find_user(connection, user_id)
    assert user is not None
    return user.role, user.status, user.version


async def refusal_of(saving: Saving, command: Command) -> str | None:
    with pytest.raises(ApplicationError) as refusal:
        await saving.user(command)
    return refusal.value.type


async def test_role_is_changed_once_and_closes_the_sessions_of_the_account_alone(
    database: Database, saving: Saving, tenant: str
) -> None:
    admin, user_id = await administrator(database, saving, tenant), await saving.registered(tenant)
    kept, _ = await opened(database, tenant, admin), await opened(database, tenant, user_id)
    command = by(admin, tenant, user_id)

    first, again = await saving.user(command), await saving.user(command)

    assert saving.answer(again) == saving.answer(first)
    assert [(event.event_type, event.user_id) for event in first.events] == [("USER_ROLE_CHANGED", admin)]
    assert (first.aggregate_id, saving.resource(first)["role"]) == (user_id, "AGENT")
    assert await account(database, tenant, user_id) == ("AGENT", "PENDING_VERIFICATION", 2)
    assert await open_sessions(database, tenant, user_id) == set()
    assert await open_sessions(database, tenant, admin) == {kept}


async def test_suspension_closes_the_sessions_and_ends_by_another_command(
    database: Database, saving: Saving, tenant: str
) -> None:
    admin, user_id = await administrator(database, saving, tenant), await saving.registered(tenant)
    await opened(database, tenant, user_id)
    suspending = suspension(admin, tenant, user_id)

    first, again = await saving.user(suspending), await saving.user(suspending)
    assert saving.answer(again) == saving.answer(first)
    assert await account(database, tenant, user_id) == ("USER", "SUSPENDED", 2)
    assert await open_sessions(database, tenant, user_id) == set()

    await saving.user(by(admin, tenant, user_id, ChangeUserStatus, status=UserStatus.ACTIVE))
    assert await account(database, tenant, user_id) == ("USER", "PENDING_VERIFICATION", 3)


@pytest.mark.parametrize("change", [by, suspension])
@pytest.mark.parametrize(
    "of_sender",
    [
        {"status": "SUSPENDED"},
        {"status": "DELETED"},
        {"role": "USER"},
        {"role": "BUILDER"},
    ],
    ids=["suspended", "erased", "demoted to USER", "demoted to BUILDER"],
)
async def test_sender_who_is_no_administrator_when_it_is_saved_is_refused(
    database: Database, saving: Saving, tenant: str, of_sender: dict[str, str], change: Any
) -> None:
    sender, user_id = await administrator(database, saving, tenant), await saving.registered(tenant)
    await opened(database, tenant, user_id)
    await set_columns(database, tenant, sender, **of_sender)

    assert await refusal_of(saving, change(sender, tenant, user_id)) == "forbidden"

    assert await account(database, tenant, user_id) == ("USER", "PENDING_VERIFICATION", 1)
    assert len(await open_sessions(database, tenant, user_id)) == 1


@pytest.mark.parametrize("change", [by, suspension])
async def test_administrator_does_not_change_their_own_account(
    database: Database, saving: Saving, tenant: str, change: Any
) -> None:
    admin = await administrator(database, saving, tenant)

    assert await refusal_of(saving, change(admin, tenant, admin)) == "forbidden"

    assert await account(database, tenant, admin) == ("ADMIN", "PENDING_VERIFICATION", 1)


@pytest.mark.parametrize("change", [by, suspension])
async def test_administrator_of_another_tenant_is_refused(database: Database, saving: Saving, change: Any) -> None:
    tenant, other = new_tenant(), new_tenant()
    admin, user_id = await administrator(database, saving, other), await saving.registered(tenant)

    assert await refusal_of(saving, change(admin, tenant, user_id)) == "forbidden"
    assert await refusal_of(saving, change(admin, other, user_id)) == "not-found"


@pytest.mark.parametrize("change", [by, suspension])
async def test_account_that_is_erased_or_unknown_is_not_found(
    database: Database, saving: Saving, tenant: str, change: Any
) -> None:
    admin, erased, without_key = (
        await administrator(database, saving, tenant),
        await saving.registered(tenant),
        await saving.registered(tenant),
    )
    await set_columns(database, tenant, erased, status="DELETED")
    async with database.statements(tenant) as connection:
        await connection.execute(delete(person_keys).where(person_keys.c.user_id == without_key))

    for user_id in (erased, without_key, new_id()):
        assert await refusal_of(saving, change(admin, tenant, user_id)) == "not-found"


@pytest.mark.parametrize("change", [by, suspension])
async def test_administrators_who_change_each_other_at_once_do_not_both_succeed(
    database: Database, saving: Saving, tenant: str, change: Any
) -> None:
    pairs = [[await administrator(database, saving, tenant) for _ in range(2)] for _ in range(4)]

    async def outcome(sender: UUID, other: UUID) -> str | None:
        try:
            await saving.user(change(sender, tenant, other))
        except ApplicationError as refusal:
            return refusal.type
        return "saved"

    outcomes = await asyncio.gather(*(outcome(*ids) for pair in pairs for ids in (pair, pair[::-1])))

    assert [sorted(map(str, outcomes[n : n + 2])) for n in range(0, 8, 2)] == [["forbidden", "saved"]] * 4
