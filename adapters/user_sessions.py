"""The sessions of one user: list and close them, and whether a device is new among them."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import exists, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.security_events import devices_of_sign_ins
from adapters.tables import refresh_tokens, sessions

MOST = 100
"""Open sessions of one user: more devices than anybody has. The least recently seen are closed."""
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
    )
    # By itself, because rows that OFFSET skips would be locked too. SKIP LOCKED, because concurrent sign-ins would wait
    # for each other's sessions in different orders, which is a deadlock.
    locked = select(_S.session_id).where(_S.session_id.in_(surplus)).with_for_update(skip_locked=True)
    await tx.execute(update(sessions).where(_S.session_id.in_(locked)).values(revoked_at=func.now()))


async def is_new_device(connection: AsyncConnection, user_id: UUID, device: str | None) -> bool:
    """Whether the user has signed in before, but never with a device of this label.

    Sessions are deleted a month after their last use; older sign-ins are found among the security events. Sessions of
    releases that did not keep the device, and have no `last_seen_at`, say nothing.
    """
    query = select(func.count(), func.count().filter(_S.device.is_not_distinct_from(device)))
    before, same = (await connection.execute(query.where(_S.user_id == user_id, _S.last_seen_at.is_not(None)))).one()
    if same:
        return False
    devices = await devices_of_sign_ins(connection, user_id)
    return device not in devices and bool(before or devices)
