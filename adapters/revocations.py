"""Sessions of every tenant that were closed lately."""

from datetime import timedelta
from uuid import UUID

from sqlalchemy import DateTime, bindparam, func, select
from sqlalchemy.dialects.postgresql import INTERVAL
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.tables import sessions

# By the clock of the database, which has written `revoked_at`. The index `sessions_revoked` has these rows only.
_CLOSED = select(sessions.c.tenant_id, sessions.c.session_id).where(
    sessions.c.revoked_at > func.now(type_=DateTime(timezone=True)) - bindparam("within", type_=INTERVAL)
)


async def closed_sessions(connection: AsyncConnection, within: timedelta) -> set[tuple[str, UUID]]:
    """Tenant and id of the sessions that were closed in the last `within`, of every tenant the connection reads."""
    return {(row[0], row[1]) for row in await connection.execute(_CLOSED, {"within": within})}
