"""The activity that saves commands on accounts."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from pydantic import ConfigDict, TypeAdapter
from sqlalchemy import Executable, bindparam, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection
from temporalio import activity
from webauthn.helpers import base64url_to_bytes

from activities.saving import Aggregate, CommandStore, Loaded
from adapters.current_state import find_user
from adapters.postgres import Write
from adapters.sealing import Keyring, token_hash
from adapters.tables import (
    account_tokens,
    erasures,
    exports,
    passkeys,
    person_keys,
    push_subscriptions,
    recovery_codes,
    sessions,
    totp,
    user_profiles,
    users,
)
from domain import ids
from domain.command import Actor, Saved, SealedCommand
from domain.errors import EmailTaken, PasskeyTaken, UsernameTaken, UserNotFound
from domain.roles import UserRole
from domain.user import MAY_SIGN_IN, User, UserStatus
from domain.user_commands import (
    VERIFICATION_STEPS,
    AddPasskey,
    ChangePassword,
    ChangeRole,
    ChangeUserStatus,
    Circumstances,
    DisableSecondFactor,
    EnableSecondFactor,
    EraseUser,
    ExpireVerification,
    ExportHistory,
    RegisterUser,
    RemovePasskey,
    RequestPasswordReset,
    RequestVerification,
    ResetPassword,
    UserCommand,
    VerifyEmail,
    decide,
    evolve,
)

VERIFY, RESET = "verify", "reset"
"""The purposes of links in mails."""
LINK_LIFETIMES = {VERIFY: timedelta(days=7), RESET: timedelta(hours=1)}
_ACCOUNT = {
    "version",
    "username",
    "email",
    "role",
    "status",
    "email_verified",
    "phone_verified",
    "second_factor",
    "created_at",
    "updated_at",
}
_PROFILE = {"first_name", "last_name", "phone_number", "address", "city", "state", "pincode", "date_of_birth"}
_SECURITY = (
    select(person_keys.c.wrapped_key, users.c.verification_step)
    .select_from(users)
    .outerjoin(person_keys, person_keys.c.user_id == users.c.user_id)
    .where(users.c.user_id == bindparam("user_id"))
)
_ACTOR = select(users.c.role, users.c.status).where(users.c.user_id == bindparam("user_id"))
_VALID_TOKEN = select(account_tokens.c.token_hash).where(
    account_tokens.c.user_id == bindparam("user_id"),
    account_tokens.c.token_hash == bindparam("token_hash"),
    account_tokens.c.purpose == bindparam("purpose"),
    account_tokens.c.used_at.is_(None),
    account_tokens.c.expires_at > bindparam("now"),
)
_PASSKEY = select(passkeys.c.name).where(
    passkeys.c.user_id == bindparam("user_id"), passkeys.c.passkey_id == bindparam("passkey_id")
)
_RUNNING_EXPORT = select(exports.c.export_id).where(
    exports.c.user_id == bindparam("user_id"), exports.c.ready_at.is_(None)
)
_CLOSE_SESSIONS = update(sessions).where(sessions.c.revoked_at.is_(None)).values(revoked_at=func.now())
_WITHDRAW_RESETS = delete(account_tokens).where(account_tokens.c.purpose == RESET, account_tokens.c.used_at.is_(None))
_CONFLICTS = {
    "users_email_key": EmailTaken(field="email"),
    "users_username_key": UsernameTaken(field="username"),
    "passkeys_credential_key": PasskeyTaken(),
}


class Users:
    """Saves the commands on accounts."""

    def __init__(self, store: CommandStore, keyring: Keyring) -> None:
        self._store = store
        self._keyring = keyring
        self._user: Aggregate[User] = Aggregate(
            commands=TypeAdapter(UserCommand, config=ConfigDict(hide_input_in_errors=True)),
            load=self._load,
            decide=decide,
            evolve=evolve,
            rows=self._rows,
            consequences=_consequences,
            conflicts=_CONFLICTS,
        )

    @activity.defn
    async def save_user(self, command: SealedCommand) -> Saved:
        """Save a command, once. Raises the refusals of `domain/user_commands.py` as ApplicationError."""
        return await self._store.save(self._user, command)

    async def _load(self, connection: AsyncConnection, command: Any) -> Loaded[User]:
        """Load the account, its key, and what the command's decision needs. Raises UserNotFound."""
        if isinstance(command, RegisterUser):
            return Loaded(None, 0, Circumstances(), command.user_id, self._keyring.new_wrapped_key())
        account_id = command.aggregate_id
        await _lock_administrator(connection, command)
        state = await find_user(connection, account_id)
        security = (await connection.execute(_SECURITY, {"user_id": account_id})).one_or_none()
        if state is None or security is None or security.wrapped_key is None:
            raise UserNotFound
        circumstances = Circumstances(
            actor=await _actor(connection, command),
            token_is_valid=await _has_valid_token(connection, command),
            passkey_name=await _passkey_name(connection, command),
            verification_step=security.verification_step,
            export_is_running=await _export_is_running(connection, command),
        )
        return Loaded(state, state.version, circumstances, account_id, security.wrapped_key)

    def _rows(self, command: Any, loaded: Loaded[User], state: User | None) -> Sequence[Write]:
        key = {"tenant_id": command.tenant_id, "user_id": command.aggregate_id}
        if state is None:
            return _rows_of_erasure(command, loaded, key)
        account, profile = state.model_dump(include=_ACCOUNT), state.model_dump(include=_PROFILE)
        if isinstance(command, RegisterUser):
            return [
                Write(users, {**key, **account, "password_hash": command.password_hash}),
                Write(user_profiles, {**key, **profile}),
                Write(person_keys, {**key, "wrapped_key": loaded.key}),
                self._link(command, VERIFY),
            ]
        account |= _account_columns(command, loaded)
        others = self._other_rows(command, key, loaded)
        return [Write(users, {**key, **account}, "update"), Write(user_profiles, {**key, **profile}, "update"), *others]

    def _other_rows(self, command: Any, key: dict[str, Any], loaded: Loaded[User]) -> Iterator[Write]:
        match command:
            case RequestVerification():
                yield self._link(command, VERIFY)
            case RequestPasswordReset():
                yield self._link(command, RESET)
            case ExportHistory():
                requested = {"user_id": command.user_id, "requested_at": command.issued_at}
                yield Write(exports, {"tenant_id": command.tenant_id, "export_id": command.command_id, **requested})
            case VerifyEmail(token_hash=used) | ResetPassword(token_hash=used):
                token = {"tenant_id": command.tenant_id, "token_hash": bytes.fromhex(used)}
                yield Write(account_tokens, {**token, "used_at": command.issued_at}, "update")
                if isinstance(command, ResetPassword) and loaded.state and not loaded.state.email_verified:
                    yield from (Write(factor, key, "delete") for factor in (totp, recovery_codes, passkeys))
            case EnableSecondFactor(secret=secret):
                if secret is not None:
                    sealed = self._keyring.seal_text(secret, loaded.key, command.aggregate_id, "secret")
                    row = {"secret": sealed, "last_step": command.step, "created_at": command.issued_at}
                    yield Write(totp, {**key, **row}, "upsert")
                yield Write(recovery_codes, key, "delete")
                for code in command.recovery_code_hashes:
                    yield Write(recovery_codes, {**key, "code_hash": bytes.fromhex(code)})
            case DisableSecondFactor():
                yield Write(totp, key, "delete")
                yield Write(recovery_codes, key, "delete")
            case AddPasskey():
                yield Write(
                    passkeys,
                    {
                        **key,
                        "passkey_id": command.passkey_id,
                        "credential_id": base64url_to_bytes(command.credential_id),
                        "public_key": base64url_to_bytes(command.public_key),
                        "sign_count": command.sign_count,
                        "transports": list(command.transports),
                        "name": command.name,
                        "created_at": command.issued_at,
                    },
                )
            case RemovePasskey(passkey_id=passkey_id):
                yield Write(passkeys, {"tenant_id": command.tenant_id, "passkey_id": passkey_id}, "delete")

    def _link(self, command: Any, purpose: str) -> Write:
        """The row of the link's token in the mail of the command's event."""
        token = self._keyring.link_token(ids.event_id(command.command_id, 1))
        return Write(
            account_tokens,
            {
                "tenant_id": command.tenant_id,
                "token_hash": token_hash(token),
                "user_id": command.aggregate_id,
                "purpose": purpose,
                "created_at": command.issued_at,
                "expires_at": command.issued_at + LINK_LIFETIMES[purpose],
            },
        )


def _rows_of_erasure(command: Any, loaded: Loaded[User], key: dict[str, Any]) -> Sequence[Write]:
    """The account is closed; the workflow deletes it after its last mail, for which the address is needed."""
    closed = {"status": UserStatus.DELETED, "version": loaded.version + 1, "updated_at": command.issued_at}
    requested = {"command_id": command.command_id, "requested_at": command.issued_at}
    return [Write(users, {**key, **closed}, "update"), Write(erasures, {**key, **requested})]


def _account_columns(command: Any, loaded: Loaded[User]) -> dict[str, Any]:
    """Columns of `users` that are not part of the account's public state."""
    match command:
        case ChangePassword(password_hash=hashed) | ResetPassword(password_hash=hashed):
            return {"password_hash": hashed}
        case RequestVerification(reminder=reminder) if reminder:
            return {"verification_step": reminder}
        case ExpireVerification():
            return {"verification_step": VERIFICATION_STEPS}
    return {}


def _consequences(command: Any) -> Sequence[Executable]:
    """Close sessions, withdraw links and browsers, and record a second factor in the session that has proven it.

    Whoever had a closed session may have subscribed a browser of their own; the owner's subscribes again by itself.

    Whoever opens a session locks the account's row until its transaction ends, and the row of this command waits for
    that: these statements then see the session.
    """
    close = _CLOSE_SESSIONS.where(sessions.c.user_id == command.aggregate_id)
    withdraw = _WITHDRAW_RESETS.where(account_tokens.c.user_id == command.aggregate_id)
    unsubscribe = delete(push_subscriptions).where(push_subscriptions.c.user_id == command.aggregate_id)
    match command:
        case ChangePassword(session_id=kept):
            return [close.where(sessions.c.session_id != kept), withdraw, unsubscribe]
        case ResetPassword() | EraseUser() | ChangeUserStatus(status=UserStatus.SUSPENDED):
            return [close, withdraw, unsubscribe]
        case ChangeRole():  # the role is in every access token
            return [close]
        case EnableSecondFactor(session_id=UUID() as proven) | AddPasskey(session_id=UUID() as proven):
            own = sessions.c.user_id == command.aggregate_id
            prove = update(sessions).where(own, sessions.c.session_id == proven).values(second_factor=True)
            # The others were opened by the password alone. Replacing the recovery codes has no secret.
            enabled = getattr(command, "secret", None) is not None
            return [prove, close.where(sessions.c.session_id != proven), unsubscribe] if enabled else [prove]
    return ()


async def _lock_administrator(connection: AsyncConnection, command: Any) -> None:
    """Lock the rows of an administrator and of the account that they change, in one order.

    Two administrators who demote or suspend each other at once would both succeed otherwise, and the tenant would have
    none. The second one waits here, and then reads that they are none.
    """
    if getattr(command, "account_id", None) is not None:
        both = users.c.user_id.in_([command.user_id, command.account_id])
        await connection.execute(select(users.c.user_id).where(both).order_by(users.c.user_id).with_for_update())


async def _actor(connection: AsyncConnection, command: Any) -> Actor | None:
    """The administrator who sends a command on another account. Raises nothing: `decide` refuses others."""
    if getattr(command, "account_id", None) is None:
        return None
    row = (await connection.execute(_ACTOR, {"user_id": command.user_id})).one_or_none()
    if row is None or row.status not in MAY_SIGN_IN:
        return None
    return Actor(user_id=command.user_id, role=UserRole(row.role))


async def _has_valid_token(connection: AsyncConnection, command: Any) -> bool:
    if not isinstance(command, VerifyEmail | ResetPassword):
        return False
    wanted = {
        "user_id": command.user_id,
        "token_hash": bytes.fromhex(command.token_hash),
        "purpose": VERIFY if isinstance(command, VerifyEmail) else RESET,
        "now": command.issued_at,
    }
    return (await connection.execute(_VALID_TOKEN, wanted)).one_or_none() is not None


async def _passkey_name(connection: AsyncConnection, command: Any) -> str | None:
    if not isinstance(command, RemovePasskey):
        return None
    wanted: dict[str, UUID] = {"user_id": command.user_id, "passkey_id": command.passkey_id}
    name: str | None = (await connection.execute(_PASSKEY, wanted)).scalar_one_or_none()
    return name


async def _export_is_running(connection: AsyncConnection, command: Any) -> bool:
    if not isinstance(command, ExportHistory):
        return False
    return (await connection.execute(_RUNNING_EXPORT, {"user_id": command.user_id})).first() is not None
