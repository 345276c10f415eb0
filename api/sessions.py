"""Sessions: refresh tokens, stored as hashes, used once; using one twice closes all that came from the same sign-in."""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from sqlalchemy import delete, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.postgres import Database
from adapters.tables import refresh_tokens, users
from api.errors import ApiError
from api.passwords import Passwords
from domain.user import MAY_SIGN_IN, User
from projections.users import find_user

LIFETIME = timedelta(days=30)
"""People come back to a search for a home for weeks."""


@dataclass(frozen=True)
class Session:
    """A person who is signed in, and the token that keeps them so."""

    user: User
    refresh_token: str


class Sessions:
    """Opens, renews and closes sessions of one tenant at a time."""

    def __init__(self, database: Database, passwords: Passwords) -> None:
        self._database = database
        self._passwords = passwords

    async def sign_in(self, tenant_id: str, name: str, password: str, address: str) -> Session:
        """By e-mail or username, a SignInName, for a client at `address`.

        Raises ApiError invalid-credentials, account-closed, or unavailable when too many wait.
        """
        query = select(users.c.user_id, users.c.password_hash).where(
            or_(func.lower(users.c.email) == name, func.lower(users.c.username) == name)
        )
        async with self._database.statements(tenant_id) as connection:
            row = (await connection.execute(query)).first()
        # Without a connection: hashing takes longer than everything else, and connections are few.
        hashed = row.password_hash if row else None
        if not await self._passwords.matches(password, hashed, address=address) or row is None:
            raise ApiError("invalid-credentials")
        async with self._database.transaction(tenant_id) as tx:
            await tx.execute(update(users).where(users.c.user_id == row.user_id).values(last_login=func.now()))
            return await _open(tx, tenant_id, row.user_id, uuid4())

    async def begin(self, tenant_id: str, user_id: UUID) -> Session:
        """For a person who has just registered."""
        async with self._database.transaction(tenant_id) as tx:
            return await _open(tx, tenant_id, user_id, uuid4())

    async def renew(self, tenant_id: str, token: str) -> Session:
        """A new refresh token for an old one. Raises ApiError invalid-refresh-token or refresh-token-reused."""
        async with self._database.transaction(tenant_id) as tx:
            used = await tx.execute(
                update(refresh_tokens)
                .where(
                    refresh_tokens.c.token_hash == _hash(token),
                    refresh_tokens.c.used_at.is_(None),
                    refresh_tokens.c.revoked_at.is_(None),
                    refresh_tokens.c.expires_at > func.now(),
                )
                .values(used_at=func.now())
                .returning(refresh_tokens.c.user_id, refresh_tokens.c.family_id)
            )
            row = used.one_or_none()
            if row:
                return await _open(tx, tenant_id, row.user_id, row.family_id)
        if await self._was_used(tenant_id, token):
            raise ApiError("refresh-token-reused")
        raise ApiError("invalid-refresh-token")

    async def end(self, tenant_id: str, token: str) -> None:
        """Close the session of a refresh token; one that is unknown has nothing to close."""
        async with self._database.statements(tenant_id) as connection:
            await _revoke_family(connection, token)

    async def _was_used(self, tenant_id: str, token: str) -> bool:
        async with self._database.statements(tenant_id) as connection:
            used_at = await connection.execute(
                select(refresh_tokens.c.used_at).where(refresh_tokens.c.token_hash == _hash(token))
            )
            if used_at.scalar_one_or_none() is None:
                return False
            await _revoke_family(connection, token)
            return True


async def _open(tx: AsyncConnection, tenant_id: str, user_id: UUID, family_id: UUID) -> Session:
    user = await find_user(tx, user_id)
    if user is None or user.status not in MAY_SIGN_IN:
        raise ApiError("account-closed")
    token, now = secrets.token_urlsafe(32), datetime.now(UTC)
    # Nobody can use them any more, and who comes back is the one who leaves them behind.
    await tx.execute(
        delete(refresh_tokens).where(refresh_tokens.c.user_id == user_id, refresh_tokens.c.expires_at < func.now())
    )
    await tx.execute(
        insert(refresh_tokens),
        {
            "tenant_id": tenant_id,
            "token_hash": _hash(token),
            "family_id": family_id,
            "user_id": user_id,
            "issued_at": now,
            "expires_at": now + LIFETIME,
        },
    )
    return Session(user, token)


async def _revoke_family(tx: AsyncConnection, token: str) -> None:
    family = select(refresh_tokens.c.family_id).where(refresh_tokens.c.token_hash == _hash(token)).scalar_subquery()
    await tx.execute(
        update(refresh_tokens)
        .where(refresh_tokens.c.family_id == family, refresh_tokens.c.revoked_at.is_(None))
        .values(revoked_at=func.now())
    )


def _hash(token: str) -> bytes:
    # The token has 256 random bits: a fast hash is enough, and a slow one would help nobody.
    return hashlib.sha256(token.encode()).digest()
