"""Commands on accounts: the sessions and links that they close, and passkeys."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from temporalio.exceptions import ApplicationError

from adapters.postgres import Database
from domain.command import Command
from domain.roles import UserRole
from domain.user import ProfilePatch
from domain.user_commands import AddPasskey, ChangePassword, ChangeRole, RequestPasswordReset, UpdateProfile
from tests.activities.accounts import Saving
from tests.samples import new_id


def on(tenant: str, user_id: UUID, command: type[Command], **fields: Any) -> Any:
    """A command on one's own account."""
    return command(command_id=new_id(), tenant_id=tenant, user_id=user_id, issued_at=datetime.now(UTC), **fields)


async def opened(database: Database, tenant: str, user_id: UUID) -> UUID:
    """A session of the user."""
    session_id = new_id()
    insert = (
        "INSERT INTO user_management.sessions (tenant_id, session_id, user_id, opened_at)"
        " VALUES (:tenant, :session, :user, now())"
    )
    async with database.statements(tenant) as connection:
        await connection.execute(text(insert), {"tenant": tenant, "session": session_id, "user": user_id})
    return session_id


async def open_sessions(database: Database, tenant: str, user_id: UUID) -> set[UUID]:
    query = "SELECT session_id FROM user_management.sessions WHERE user_id = :user AND revoked_at IS NULL"
    async with database.statements(tenant) as connection:
        return set((await connection.execute(text(query), {"user": user_id})).scalars())


async def reset_links(database: Database, tenant: str, user_id: UUID) -> int:
    query = "SELECT count(*) FROM user_management.account_tokens WHERE user_id = :user AND purpose = 'reset'"
    async with database.statements(tenant) as connection:
        return int((await connection.execute(text(query), {"user": user_id})).scalar_one())


async def test_changed_password_closes_other_sessions_and_withdraws_links_once(
    database: Database, saving: Saving, tenant: str
) -> None:
    user_id, other = await saving.registered(tenant), await saving.registered(tenant)
    kept, _, others = [await opened(database, tenant, who) for who in (user_id, user_id, other)]
    await saving.user(on(tenant, user_id, RequestPasswordReset))
    change = on(tenant, user_id, ChangePassword, password_hash="$argon2id$", session_id=kept)

    first = await saving.user(change)
    later = await opened(database, tenant, user_id)
    again = await saving.user(change)

    assert saving.answer(again) == saving.answer(first)
    assert await open_sessions(database, tenant, user_id) == {kept, later}
    assert await open_sessions(database, tenant, other) == {others}
    assert await reset_links(database, tenant, user_id) == 0


async def test_changed_role_closes_every_session_and_an_unchanged_one_none(
    database: Database, saving: Saving, tenant: str
) -> None:
    user_id = await saving.registered(tenant)
    await opened(database, tenant, user_id)

    await saving.user(on(tenant, user_id, ChangeRole, role=UserRole.AGENT))
    assert await open_sessions(database, tenant, user_id) == set()

    kept = await opened(database, tenant, user_id)
    await saving.user(on(tenant, user_id, ChangeRole, role=UserRole.AGENT))
    await saving.user(on(tenant, user_id, UpdateProfile, changes=ProfilePatch(city="Uppal")))
    assert await open_sessions(database, tenant, user_id) == {kept}


async def test_passkey_has_one_account(saving: Saving, tenant: str) -> None:
    key = {"credential_id": "Y3JlZA", "public_key": "a2V5", "sign_count": 0, "name": "Phone"}
    owner, other = await saving.registered(tenant), await saving.registered(tenant)
    await saving.user(on(tenant, owner, AddPasskey, passkey_id=new_id(), **key))

    with pytest.raises(ApplicationError) as refused:
        await saving.user(on(tenant, other, AddPasskey, passkey_id=new_id(), **key))

    assert refused.value.type == "passkey-taken"
