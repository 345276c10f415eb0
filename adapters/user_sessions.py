"""The sessions of one user: list and close them, and whether a device is new among them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import bindparam, exists, func, literal_column, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.tables import SECURITY_EVENTS, event_store, refresh_tokens, sessions

MOST = 100
"""Open sessions of one user: more devices than anybody has. The least recently seen are closed."""
_SIGN_INS = 1000
"""Security events that are searched for a device: years of them, and a bound while somebody guesses passwords."""
_S = sessions.c
_IS_OPEN = _S.revoked_at.is_(None)
_LAST_SEEN = func.coalesce(_S.last_seen_at, _S.opened_at)
# Without a valid refresh token a session has ended by itself; its row is deleted at the next sign-in.
_CAN_BE_RENEWED = exists().where(
    refresh_tokens.c.session_id == _S.session_id,
    refresh_tokens.c.used_at.is_(None),
    refresh_tokens.c.expires_at > func.now(),
)


@dataclass(frozen=True)
class OpenSession:
    """An open session of a user, as it is stored."""

    id: UUID
    device: str | None
    opened_at: datetime
    last_seen_at: datetime


async def of_user(connection: AsyncConnection, user_id: UUID) -> list[OpenSession]:
    """The open sessions of a user, at most `MOST`, the last seen first."""
    query = (
        select(_S.session_id, _S.device, _S.opened_at, _LAST_SEEN)
        .where(_S.user_id == user_id, _IS_OPEN, _CAN_BE_RENEWED)
        .order_by(_LAST_SEEN.desc(), _S.session_id.desc())
        .limit(MOST)
    )
    return [OpenSession(*row) for row in await connection.execute(query)]


async def close(connection: AsyncConnection, user_id: UUID, session_id: UUID) -> bool:
    """Close an open session of a user; whether there was one."""
    statement = update(sessions).where(_S.session_id == session_id, _S.user_id == user_id, _IS_OPEN)
    return (await connection.execute(statement.values(revoked_at=func.now()))).rowcount > 0


async def close_others(connection: AsyncConnection, user_id: UUID, kept: UUID) -> None:
    """Close every session of a user except one."""
    statement = update(sessions).where(_S.session_id != kept, _S.user_id == user_id, _IS_OPEN)
    await connection.execute(statement.values(revoked_at=func.now()))


async def make_room(tx: AsyncConnection, user_id: UUID) -> None:
    """Close the least recently seen sessions of a user, so that one more can be opened."""
    surplus = (
        select(_S.session_id)
        .where(_S.user_id == user_id, _IS_OPEN)
        .order_by(_LAST_SEEN.desc(), _S.session_id.desc())
        .offset(MOST - 1)
        # Concurrent sign-ins would wait for each other's sessions in different orders, which is a deadlock.
        .with_for_update(skip_locked=True)
    )
    await tx.execute(update(sessions).where(_S.session_id.in_(surplus)).values(revoked_at=func.now()))


async def is_new_device(connection: AsyncConnection, user_id: UUID, device: str | None) -> bool:
    """Whether the user has signed in before, but never with a device of this label.

    Sessions are deleted a month after their last use; older sign-ins are found among the security events. Sessions of
    releases that did not keep the device, and have no `last_seen_at`, say nothing.
    """
    query = select(func.count(), func.count().filter(_S.device.is_not_distinct_from(device)))
    before, same = (await connection.execute(query.where(_S.user_id == user_id, _S.last_seen_at.is_not(None)))).one()
    if same:
        return False
    devices = await _devices_of_sign_ins(connection, user_id)
    return device not in devices and bool(before or devices)


async def _devices_of_sign_ins(connection: AsyncConnection, user_id: UUID) -> Sequence[str]:
    """The labels of devices in the newest security events of an account."""
    e = event_store.c
    newest = (
        select(e.event_type, e.event_data["device"].astext.label("device"))
        .where(
            e.aggregate_id == bindparam("user_id"),
            # Literals, so that Postgres can use the partial index `event_store_security`.
            e.event_type.in_([literal_column(f"'{name}'") for name in SECURITY_EVENTS]),
        )
        .order_by(e.timestamp.desc(), e.event_id.desc())
        .limit(_SIGN_INS)
        .subquery()
    )
    query = select(newest.c.device).distinct()
    query = query.where(newest.c.event_type == "USER_LOGGED_IN", newest.c.device.is_not(None))
    return (await connection.execute(query, {"user_id": str(user_id)})).scalars().all()
