"""Commands on accounts: the sessions and links that they close, and passkeys."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from temporalio.exceptions import ApplicationError

from adapters import push_subscriptions
from adapters.postgres import Database
from adapters.sealing import Keyring, token_hash
from domain import ids
from domain.command import Command
from domain.roles import UserRole
from domain.user import ProfilePatch
from domain.user_commands import (
    AddPasskey,
    ChangePassword,
    ChangeRole,
    DisableSecondFactor,
    EnableSecondFactor,
    RequestPasswordReset,
    ResetPassword,
    UpdateProfile,
    VerifyEmail,
)
from tests.activities.accounts import Saving
from tests.adapters.test_push import Browser
from tests.samples import new_id, register_user


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
    async with database.transaction(tenant) as tx:
        subscription = Browser().subscription("https://push.example/1")
        await push_subscriptions.put(tx, tenant, user_id, subscription, datetime.now(UTC))
    change = on(tenant, user_id, ChangePassword, password_hash="$argon2id$", session_id=kept)

    first = await saving.user(change)
    later = await opened(database, tenant, user_id)
    again = await saving.user(change)

    assert saving.answer(again) == saving.answer(first)
    assert await open_sessions(database, tenant, user_id) == {kept, later}
    assert await open_sessions(database, tenant, other) == {others}
    assert await reset_links(database, tenant, user_id) == 0
    async with database.statements(tenant) as connection:
        assert await push_subscriptions.of_users(connection, [user_id]) == {}


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


def link_hash(keyring: Keyring, command_id: UUID) -> str:
    """The hash of the token in the mail that a command causes."""
    return token_hash(keyring.link_token(ids.event_id(command_id, 1))).hex()


async def factors(database: Database, tenant: str, user_id: UUID) -> tuple[list[int], set[str], set[UUID]]:
    """The last steps of the user's app, the hashes of unused recovery codes, and the sessions with a second factor."""
    steps = "SELECT last_step FROM user_management.totp WHERE user_id = :user"
    codes = "SELECT encode(code_hash, 'hex') FROM user_management.recovery_codes WHERE user_id = :user"
    proven = "SELECT session_id FROM user_management.sessions WHERE user_id = :user AND second_factor"
    async with database.statements(tenant) as connection:
        queries = [text(query) for query in (steps, codes, proven)]
        found = [(await connection.execute(query, {"user": user_id})).scalars().all() for query in queries]
    return list(found[0]), set(found[1]), set(found[2])


async def test_enabled_second_factor_is_stored_once_with_the_session_that_has_proven_it(
    database: Database, saving: Saving, tenant: str
) -> None:
    user_id = await saving.registered(tenant)
    session, _ = [await opened(database, tenant, user_id) for _ in range(2)]
    enable = on(
        tenant, user_id, EnableSecondFactor, secret="S", step=7, recovery_code_hashes=("aa", "bb"), session_id=session
    )

    first, again = [await saving.user(enable) for _ in range(2)]

    assert saving.answer(again) == saving.answer(first)
    assert await factors(database, tenant, user_id) == ([7], {"aa", "bb"}, {session})


async def test_replaced_recovery_codes_leave_the_app_as_it_is(database: Database, saving: Saving, tenant: str) -> None:
    user_id = await saving.registered(tenant)
    await saving.user(on(tenant, user_id, EnableSecondFactor, secret="S", step=7, recovery_code_hashes=("aa",)))
    replace = on(tenant, user_id, EnableSecondFactor, recovery_code_hashes=("cc",))

    for _ in range(2):
        await saving.user(replace)
    assert await factors(database, tenant, user_id) == ([7], {"cc"}, set())

    for _ in range(2):
        await saving.user(on(tenant, user_id, DisableSecondFactor))
    assert await factors(database, tenant, user_id) == ([], set(), set())


@pytest.mark.parametrize("verified", [False, True])
async def test_reset_removes_every_factor_of_an_account_whose_address_was_never_verified(
    database: Database, saving: Saving, keyring: Keyring, tenant: str, verified: bool
) -> None:
    """Somebody else may have registered with the address, and set up factors of their own."""
    register = register_user(tenant)
    user_id = (await saving.user(register)).aggregate_id
    if verified:
        await saving.user(on(tenant, user_id, VerifyEmail, token_hash=link_hash(keyring, register.command_id)))
    key = {"credential_id": "Y3JlZA", "public_key": "a2V5", "sign_count": 0, "name": "Phone"}
    await saving.user(on(tenant, user_id, AddPasskey, passkey_id=new_id(), **key))
    await saving.user(on(tenant, user_id, EnableSecondFactor, secret="S", step=7, recovery_code_hashes=("aa",)))
    request = on(tenant, user_id, RequestPasswordReset)
    await saving.user(request)
    token = link_hash(keyring, request.command_id)
    reset = on(tenant, user_id, ResetPassword, password_hash="$argon2id$", token_hash=token)

    for _ in range(2):
        answer = await saving.user(reset)

    assert saving.resource(answer)["secondFactor"] is verified
    steps, codes, _ = await factors(database, tenant, user_id)
    assert (steps, codes) == (([7], {"aa"}) if verified else ([], set()))
    query = text("SELECT count(*) FROM user_management.passkeys WHERE user_id = :user")
    async with database.statements(tenant) as connection:
        assert (await connection.execute(query, {"user": user_id})).scalar_one() == int(verified)


async def test_session_in_which_a_passkey_was_made_has_a_second_factor(
    database: Database, saving: Saving, tenant: str
) -> None:
    user_id, other = await saving.registered(tenant), await saving.registered(tenant)
    session, others = [await opened(database, tenant, who) for who in (user_id, other)]
    key = {"public_key": "a2V5", "sign_count": 0, "name": "Phone"}
    for id, session_id in (("YQ", session), ("Yg", others)):
        add = on(tenant, user_id, AddPasskey, passkey_id=new_id(), credential_id=id, session_id=session_id, **key)
        for _ in range(2):
            await saving.user(add)

    assert (await factors(database, tenant, user_id))[2] == {session}
    assert (await factors(database, tenant, other))[2] == set()
