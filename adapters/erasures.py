"""The table of erasures: how far each has come, and which accounts are erased."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from sqlalchemy import and_, delete, exists, func, or_, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.tables import commands, deliveries, erasures, notices, person_keys

Stage = Literal["withdrawn", "deleted", "erased"]
STAGES: tuple[Stage, ...] = ("withdrawn", "deleted", "erased")
"""Listings and favourites are withdrawn; personal data is deleted; the person's key is destroyed."""


@dataclass(frozen=True)
class Requested:
    """An erasure that is not done."""

    tenant_id: str
    user_id: UUID
    command_id: UUID
    requested_at: datetime
    fingerprint: str | None
    """Of the recorded command, which a repetition must have as well."""


@dataclass(frozen=True)
class FreedNames:
    """What an erased person was called, and since when others can be."""

    at: datetime
    digests: tuple[str, ...]
    """`Keyring.name_digest`."""


async def reached(connection: AsyncConnection, user_id: UUID, stage: Stage) -> None:
    """Record that an erasure has come so far; the first time counts."""
    column = erasures.c[f"{stage}_at"]
    await connection.execute(
        update(erasures).where(erasures.c.user_id == user_id, column.is_(None)).values({column: func.now()})
    )


async def destroy_key(connection: AsyncConnection, user_id: UUID) -> None:
    """Delete the key of a person, in a transaction: what is encrypted with it can no longer be read."""
    await connection.execute(delete(person_keys).where(person_keys.c.user_id == user_id))
    await reached(connection, user_id, "erased")


async def free_names(connection: AsyncConnection, user_id: UUID, digests: Sequence[str]) -> None:
    """Record the digests of the names of a person whose account is deleted in this transaction; the first time."""
    unrecorded = erasures.c.user_id == user_id, erasures.c.deleted_at.is_(None)
    await connection.execute(update(erasures).where(*unrecorded).values(name_digests=list(digests) or None))


async def freed_names(connection: AsyncConnection, user_id: UUID) -> FreedNames | None:
    """The digests of the names of an erased person, until they are forgotten."""
    query = select(erasures.c.deleted_at, erasures.c.name_digests).where(
        erasures.c.user_id == user_id, erasures.c.name_digests.is_not(None)
    )
    row = (await connection.execute(query)).one_or_none()
    return FreedNames(row.deleted_at, tuple(row.name_digests)) if row else None


async def forget_names(connection: AsyncConnection, user_id: UUID) -> None:
    """Delete the digests of an erased person's names."""
    await connection.execute(update(erasures).where(erasures.c.user_id == user_id).values(name_digests=None))


async def stages_of(connection: AsyncConnection, user_id: UUID) -> dict[Stage, datetime | None]:
    """When the erasure of an account has come to each stage."""
    columns = [erasures.c[f"{stage}_at"] for stage in STAGES]
    row = (await connection.execute(select(*columns).where(erasures.c.user_id == user_id))).one_or_none()
    return dict(zip(STAGES, row or [None] * len(STAGES), strict=True))


async def is_notified(connection: AsyncConnection, event_id: UUID) -> bool:
    """Whether each notice of an event is sent or given up."""
    unexpanded = exists().where(notices.c.event_id == event_id, notices.c.expanded_at.is_(None))
    unsent = exists().where(
        deliveries.c.event_id == event_id, deliveries.c.sent_at.is_(None), deliveries.c.given_up.is_(None)
    )
    return not (await connection.execute(select(or_(unexpanded, unsent)))).scalar_one()


async def erased_among(connection: AsyncConnection, accounts: Collection[tuple[str, UUID]]) -> set[tuple[str, UUID]]:
    """Those of the accounts, each a tenant and a user id, that are erased or being erased."""
    account = tuple_(erasures.c.tenant_id, erasures.c.user_id)
    query = select(erasures.c.tenant_id, erasures.c.user_id).where(account.in_(list(accounts)))
    return {(row.tenant_id, row.user_id) for row in await connection.execute(query)}


async def pending_since(connection: AsyncConnection, moment: datetime, limit: int) -> list[Requested]:
    """Erasures of every tenant that were requested before `moment` and are not done, oldest first."""
    c = erasures.c
    of_command = and_(commands.c.tenant_id == c.tenant_id, commands.c.command_id == c.command_id)
    query = (
        select(c.tenant_id, c.user_id, c.command_id, c.requested_at, commands.c.fingerprint)
        .join(commands, of_command)
        .where(erasures.c.erased_at.is_(None), erasures.c.requested_at < moment)
        .order_by(erasures.c.requested_at)
        .limit(limit)
    )
    return [Requested(**row._mapping) for row in await connection.execute(query)]
