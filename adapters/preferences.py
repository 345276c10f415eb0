"""Reads of preferences of notices, from the rows that their commands write."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, Uuid, any_, bindparam, select
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.tables import preferences
from domain.preferences import Channels, Preferences, QuietHours

PREFERENCES_STATE = [column for column in preferences.c if column.name not in {"tenant_id", "updated_at"}]
"""The columns that `preferences_of_row` reads."""
_OF_USERS = select(*PREFERENCES_STATE).where(
    preferences.c.user_id == any_(bindparam("user_ids", type_=ARRAY(Uuid))),
)


async def preferences_of(connection: AsyncConnection, user_ids: Sequence[UUID]) -> dict[UUID, Preferences]:
    """The preferences of users of the connection's tenant; version 0 for those who have never set any."""
    rows = (await connection.execute(_OF_USERS, {"user_ids": list(user_ids)})).mappings()
    found = {row["user_id"]: preferences_of_row(row) for row in rows}
    return {user_id: found.get(user_id) or Preferences(user_id=user_id) for user_id in user_ids}


def preferences_of_row(row: Mapping[Any, Any]) -> Preferences:
    """The aggregate state from a row of `preferences`."""
    begin, end = row["quiet_from"], row["quiet_to"]
    return Preferences(
        user_id=row["user_id"],
        version=row["version"],
        kinds={kind: Channels.model_validate(channels) for kind, channels in row["kinds"].items()},
        quiet_hours=QuietHours(from_=begin, to=end) if begin is not None and end is not None else None,
    )
