"""The account as it is: read from the tables that commands write."""

from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.tables import user_profiles, users
from domain.user import User

_ACCOUNT = [column for column in users.c if column.name not in {"tenant_id", "password_hash"}]
_PROFILE = [column for column in user_profiles.c if column.name not in {"tenant_id", "user_id"}]


async def find_user(tx: AsyncConnection, user_id: UUID) -> User | None:
    """The account of the transaction's tenant with this id."""
    query = (
        select(*_ACCOUNT, *_PROFILE)
        .join(user_profiles, user_profiles.c.user_id == users.c.user_id)
        .where(users.c.user_id == user_id)
    )
    row = (await tx.execute(query)).one_or_none()
    if row is None:
        return None
    facts = dict(row._mapping)
    facts["id"] = facts.pop("user_id")
    return User(**facts)
