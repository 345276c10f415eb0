"""The events of an account that are about its security, from the event store.

They are read there and not from a read model, because they are few and looked at seldom. The partial index
`event_store_security` has them only, so that neither the views nor the favourites of an account are passed over.
"""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, bindparam, literal_column, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.event_store import HAS_TIME, MESSAGE_COLUMNS, message_of
from adapters.paging import Cursor
from adapters.tables import SECURITY_EVENTS, event_store, person_keys

_SEARCHED = 1000
"""Events in which the devices of sign-ins are searched: years of them, and a bound while somebody guesses passwords."""
_E = event_store.c
# Literals, because with parameters Postgres cannot tell that the index has the rows.
_IS_ABOUT_SECURITY = _E.event_type.in_([literal_column(f"'{name}'") for name in SECURITY_EVENTS])
_OF_ACCOUNT: tuple[ColumnElement[bool], ...] = (_E.aggregate_id == bindparam("account_id"), _IS_ABOUT_SECURITY)
_NEWEST_FIRST = (_E.timestamp.desc(), _E.event_id.desc())


async def of_account(
    connection: AsyncConnection, account_id: UUID, *, cursor: Cursor | None, limit: int
) -> list[dict[str, Any]]:
    """Messages of events of the connection's tenant, newest first; with a `cursor`, those that are older."""
    query = select(*MESSAGE_COLUMNS).where(*_OF_ACCOUNT, HAS_TIME).order_by(*_NEWEST_FIRST).limit(limit)
    if cursor:
        query = query.where(tuple_(_E.timestamp, _E.event_id) < tuple_(cursor.timestamp, cursor.id))
    rows = await connection.execute(query, {"account_id": str(account_id)})
    return [message_of(row._mapping) for row in rows]


async def key_of_account(connection: AsyncConnection, account_id: UUID) -> bytes | None:
    """The wrapped key of the account's personal data; None when it was erased."""
    query = select(person_keys.c.wrapped_key).where(person_keys.c.user_id == account_id)
    key: bytes | None = (await connection.execute(query)).scalar_one_or_none()
    return key


async def devices_of_sign_ins(connection: AsyncConnection, account_id: UUID) -> Sequence[str]:
    """The labels of the devices from which somebody has signed in to the account, as far as they are known."""
    columns = _E.event_type, _E.event_data["device"].astext.label("device")
    newest = select(*columns).where(*_OF_ACCOUNT).order_by(*_NEWEST_FIRST).limit(_SEARCHED).subquery()
    query = select(newest.c.device).distinct()
    query = query.where(newest.c.event_type == "USER_LOGGED_IN", newest.c.device.is_not(None))
    return (await connection.execute(query, {"account_id": str(account_id)})).scalars().all()
