"""Sessions: one for each sign-in, with refresh tokens that rotate and are stored as hashes.

Using a token twice closes its session. Renewing and closing lock the session's row first, so that concurrent calls are
serialized and no token outlives its session.

Opening and renewing hold a shared lock of the user's row, taken before any other. Whoever suspends a user updates that
row first and then closes the sessions: a session is either refused, or it is there to be closed.
"""

import hashlib
import secrets
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy import delete, exists, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters import user_sessions
from adapters.current_state import find_user
from adapters.postgres import Database, Write, write_rows
from adapters.sealing import Keyring
from adapters.tables import refresh_tokens, sessions, users
from api.codes import accept_code, has_passkey
from api.errors import ApiError
from api.passwords import Passwords
from api.sign_in_limits import SignInLimits
from domain.roles import UserRole
from domain.user import MAY_SIGN_IN, User

LIFETIME = timedelta(days=30)
"""A search for a home takes weeks."""


@dataclass(frozen=True)
class Session:
    """A user who is signed in, and the current refresh token."""

    id: UUID
    user: User
    refresh_token: str
    is_new_device: bool = False
    """Whether the user has signed in before, but never with such a device."""
    limited: bool = False
    """Whether its access tokens are good only for setting up a second factor."""


class SignInRefused(ApiError):
    """A guess at the password, or at a code, of `user_id`'s account, or its password alone; None is no account."""

    def __init__(self, kind: str, user_id: UUID | None, detail: str | None = None) -> None:
        super().__init__(kind, detail)
        self.user_id = user_id


class TokenReused(ApiError):
    """A refresh token was used twice. `closed` is the session that was closed for it, and its user, the first time."""

    def __init__(self, closed: tuple[UUID, UUID] | None) -> None:
        super().__init__("refresh-token-reused")
        self.closed = closed


class Sessions:
    """Opens, renews and closes sessions of one tenant at a time."""

    def __init__(
        self,
        database: Database,
        passwords: Passwords,
        keyring: Keyring,
        sign_ins: SignInLimits,
        admin_second_factor: bool = False,
    ) -> None:
        """With `admin_second_factor`, sessions of administrators without a second factor are limited."""
        self._sign_ins = sign_ins
        self._admin_second_factor = admin_second_factor
        self._database = database
        self._keyring = keyring
        self._passwords = passwords

    async def sign_in(
        self, tenant_id: str, name: str, password: str, address: str, device: str | None, code: str | None = None
    ) -> Session:
        """Open a session by password; `name` is an e-mail address or username in lower case (SignInName).

        Raises SignInRefused invalid-credentials, ApiError account-closed, or unavailable when too many sign-ins wait;
        and after the password has matched, SignInRefused second-factor-required or invalid-code, or ApiError
        too-many-requests after too many wrong codes.
        """
        query = select(users.c.user_id, users.c.password_hash, users.c.second_factor).where(
            or_(users.c.email_key == name, users.c.username_key == name)
        )
        async with self._database.statements(tenant_id) as connection:
            row = (await connection.execute(query)).first()
        # Outside the connection: hashing takes longest, and the connection pool is small.
        hashed = row.password_hash if row else None
        if not await self._passwords.matches(password, hashed, address=address) or row is None:
            raise SignInRefused("invalid-credentials", row.user_id if row else None)
        has_code = code is not None and row.second_factor
        guessing = self._sign_ins.code(tenant_id, row.user_id) if has_code else nullcontext()
        async with guessing, self._database.transaction(tenant_id) as tx:
            is_proven = await note_sign_in(tx, row.user_id) and has_code
            if is_proven and not await accept_code(tx, self._keyring, row.user_id, code or ""):
                raise SignInRefused("invalid-code", row.user_id)
            return await self.open(tx, tenant_id, row.user_id, address, device, second_factor=is_proven)

    async def begin(self, tenant_id: str, user_id: UUID, address: str, device: str | None = None) -> Session:
        """Open a session without a password, after a registration. Raises SignInRefused second-factor-required."""
        async with self._database.transaction(tenant_id) as tx:
            return await self.open(tx, tenant_id, user_id, address, device, second_factor=False)

    async def open(
        self,
        tx: AsyncConnection,
        tenant_id: str,
        user_id: UUID,
        address: str,
        device: str | None,
        *,
        second_factor: bool,
    ) -> Session:
        """Open a session of a user who has given a second factor, or has not.

        Raises ApiError account-closed, or SignInRefused second-factor-required.
        """
        session = await _open(tx, tenant_id, user_id, self._keyring.client_digest(address), device, second_factor)
        if not second_factor and session.user.second_factor:
            raise SignInRefused("second-factor-required", user_id)
        if not second_factor and self._is_demanded_of(session.user) and await has_passkey(tx, user_id):
            # The password alone must not be enough to set up another second factor.
            detail = "Administrators sign in with a passkey. Sign in with yours."
            raise SignInRefused("second-factor-required", user_id, detail)
        return await self._limited(tx, session, second_factor)

    def _is_demanded_of(self, user: User) -> bool:
        return self._admin_second_factor and user.role is UserRole.ADMIN

    async def _limited(self, tx: AsyncConnection, session: Session, second_factor: bool) -> Session:
        """The session, limited if its user needs a second factor, and has none or has not given it."""
        user = session.user
        if not self._is_demanded_of(user):
            return session
        is_full = second_factor and (user.second_factor or await has_passkey(tx, user.id))
        return replace(session, limited=not is_full)

    async def password_matches(self, tenant_id: str, user_id: UUID, password: str, address: str) -> bool:
        """Whether this is the password of the account; `address` is the client's, for fair queuing."""
        query = select(users.c.password_hash).where(users.c.user_id == user_id)
        async with self._database.statements(tenant_id) as connection:
            hashed = (await connection.execute(query)).scalar_one_or_none()
        return await self._passwords.matches(password, hashed, address=address)

    async def hash_of_new(self, tenant_id: str, user_id: UUID, password: str, address: str) -> str:
        """The hash of a new password of an account. Raises ApiError weak-password, account-closed or unavailable."""
        async with self._database.statements(tenant_id) as connection:
            user = await find_user(connection, user_id)
        if user is None:
            raise ApiError("account-closed")
        personal = [user.username, user.email, user.first_name, user.last_name, user.phone_number]
        return await self._passwords.hash(password, address=address, personal=personal, field="newPassword")

    async def renew(self, tenant_id: str, token: str) -> Session:
        """Replace a refresh token by a new one. Raises ApiError invalid-refresh-token, or TokenReused."""
        async with self._database.transaction(tenant_id) as tx:
            await _lock_user(tx, _of_token(refresh_tokens.c.user_id, token))
            session = await _locked_session(tx, token)
            if session is None:
                raise ApiError("invalid-refresh-token")
            if session.revoked_at is None and await _use(tx, token):
                seen = update(sessions).where(sessions.c.session_id == session.session_id)
                await tx.execute(seen.values(last_seen_at=func.now()))
                renewed = await _issue(tx, tenant_id, session.user_id, session.session_id)
                return await self._limited(tx, renewed, session.second_factor)
            reused = await _was_used(tx, token)
            if reused:
                await _revoke(tx, token)
        # Raised after the transaction, because an exception inside would roll back the revocation.
        if reused:
            raise TokenReused((session.user_id, session.session_id) if session.revoked_at is None else None)
        raise ApiError("invalid-refresh-token")

    async def end(self, tenant_id: str, token: str) -> None:
        """Close the session of a refresh token; an unknown token is ignored."""
        async with self._database.statements(tenant_id) as connection:
            await _revoke(connection, token)


async def note_sign_in(tx: AsyncConnection, user_id: UUID) -> bool:
    """Store the time of a sign-in; returns whether the account has a second factor.

    The account's row is locked until `tx` ends, so that this does not change before the session is opened, and that a
    code is used by one of two concurrent sign-ins.
    """
    stored = update(users).where(users.c.user_id == user_id).values(last_login=func.now())
    return bool((await tx.execute(stored.returning(users.c.second_factor))).scalar_one_or_none())


async def _open(
    tx: AsyncConnection,
    tenant_id: str,
    user_id: UUID,
    address_digest: bytes,
    device: str | None,
    second_factor: bool,
) -> Session:
    session_id, now = uuid4(), datetime.now(UTC)
    row = {
        "tenant_id": tenant_id,
        "session_id": session_id,
        "user_id": user_id,
        "opened_at": now,
        "last_seen_at": now,
        "address_digest": address_digest,
        "second_factor": second_factor,
        "device": device,
    }
    await _lock_user(tx, user_id)
    is_new_device = await user_sessions.is_new_device(tx, user_id, device)
    await user_sessions.make_room(tx, user_id)
    session = await _issue(tx, tenant_id, user_id, session_id, Write(sessions, row))
    return replace(session, is_new_device=is_new_device)


async def _issue(tx: AsyncConnection, tenant_id: str, user_id: UUID, session_id: UUID, *opened: Write) -> Session:
    """Store the next token of a session; `opened` is the row of a new session. Raises ApiError account-closed."""
    await _lock_user(tx, user_id)
    user = await find_user(tx, user_id)
    if user is None or user.status not in MAY_SIGN_IN:
        raise ApiError("account-closed")
    await _delete_expired(tx, user_id)
    token, now = secrets.token_urlsafe(32), datetime.now(UTC)
    row = {
        "tenant_id": tenant_id,
        "token_hash": _hash(token),
        "session_id": session_id,
        "user_id": user_id,
        "issued_at": now,
        "expires_at": now + LIFETIME,
    }
    await write_rows(tx, [*opened, Write(refresh_tokens, row)])
    return Session(session_id, user, token)


async def _lock_user(tx: AsyncConnection, user_id: UUID | sa.ScalarSelect[UUID]) -> None:
    """Have a concurrent change of the account wait until `tx` ends."""
    await tx.execute(select(users.c.user_id).where(users.c.user_id == user_id).with_for_update(read=True))


def _of_token(column: sa.ColumnElement[UUID], token: str) -> sa.ScalarSelect[UUID]:
    """A column of a token's row."""
    return select(column).where(refresh_tokens.c.token_hash == _hash(token)).scalar_subquery()


async def _locked_session(tx: AsyncConnection, token: str) -> sa.Row[*tuple[Any, ...]] | None:
    """Lock the session of a token, and read it; None if the token is unknown."""
    query = (
        select(sessions.c.session_id, sessions.c.user_id, sessions.c.revoked_at, sessions.c.second_factor)
        .join_from(sessions, refresh_tokens, refresh_tokens.c.session_id == sessions.c.session_id)
        .where(refresh_tokens.c.token_hash == _hash(token))
        # Later statements read the token's row: this statement's snapshot of it is older than the lock.
        .with_for_update(of=sessions)
    )
    return (await tx.execute(query)).one_or_none()


async def _use(tx: AsyncConnection, token: str) -> bool:
    """Mark a token as used; False when it was used before or has expired."""
    used = await tx.execute(
        update(refresh_tokens)
        .where(
            refresh_tokens.c.token_hash == _hash(token),
            refresh_tokens.c.used_at.is_(None),
            refresh_tokens.c.expires_at > func.now(),
        )
        .values(used_at=func.now())
    )
    return used.rowcount == 1


async def _was_used(tx: AsyncConnection, token: str) -> bool:
    used_at = await tx.execute(select(refresh_tokens.c.used_at).where(refresh_tokens.c.token_hash == _hash(token)))
    return used_at.scalar_one_or_none() is not None


async def _revoke(tx: AsyncConnection, token: str) -> None:
    await tx.execute(
        update(sessions)
        .where(sessions.c.session_id == _of_token(refresh_tokens.c.session_id, token), sessions.c.revoked_at.is_(None))
        .values(revoked_at=func.now())
    )


async def _delete_expired(tx: AsyncConnection, user_id: UUID) -> None:
    """Delete a user's expired tokens, and the user's sessions that have no token left."""
    await tx.execute(
        delete(refresh_tokens).where(refresh_tokens.c.user_id == user_id, refresh_tokens.c.expires_at < func.now())
    )
    has_token = exists().where(refresh_tokens.c.session_id == sessions.c.session_id)
    # SKIP LOCKED: a concurrent renewal holds its session and may wait for a token deleted above, so waiting for its
    # session would be a deadlock.
    abandoned = select(sessions.c.session_id).where(sessions.c.user_id == user_id, ~has_token)
    await tx.execute(delete(sessions).where(sessions.c.session_id.in_(abandoned.with_for_update(skip_locked=True))))


def _hash(token: str) -> bytes:
    # The token has 256 random bits, so a fast hash is safe.
    return hashlib.sha256(token.encode()).digest()
