"""Saves the commands on listings."""

from collections.abc import Sequence

from pydantic import TypeAdapter
from sqlalchemy import bindparam, func, select
from sqlalchemy.ext.asyncio import AsyncConnection
from temporalio import activity

from activities.saving import Aggregate, CommandStore, Loaded
from adapters.postgres import Remove, Upsert, Write
from adapters.tables import person_keys, properties, users
from domain.command import Actor, Saved, SealedCommand
from domain.errors import AccountClosed
from domain.property import Property
from domain.property_commands import PropertyCommand, decide, evolve
from domain.roles import UserRole
from domain.user import MAY_SIGN_IN

_STATE = [column for column in properties.c if column.name != "tenant_id"]
_LOAD = (
    select(users.c.role, users.c.status.label("account_status"), person_keys.c.wrapped_key, *_STATE)
    .select_from(users)
    .outerjoin(properties, properties.c.property_id == bindparam("property_id"))
    .outerjoin(person_keys, person_keys.c.user_id == func.coalesce(properties.c.owner_id, users.c.user_id))
    .where(users.c.user_id == bindparam("actor_id"))
)


async def _load(connection: AsyncConnection, command: PropertyCommand) -> Loaded[Property]:
    """The listing with its owner's key, and who sends the command. Raises AccountClosed."""
    found = await connection.execute(_LOAD, {"property_id": command.property_id, "actor_id": command.user_id})
    row = found.mappings().one_or_none()
    if row is None or row["account_status"] not in MAY_SIGN_IN or row["wrapped_key"] is None:
        raise AccountClosed
    state = None
    if row["property_id"] is not None:
        state = property_of({column.name: row[column.name] for column in _STATE})
    return Loaded(
        state=state,
        version=state.version if state else 0,
        actor=Actor(user_id=command.user_id, role=UserRole(row["role"])),
        person_id=state.owner_id if state else command.user_id,
        key=row["wrapped_key"],
    )


def property_of(row: dict[str, object]) -> Property:
    """A row of `properties` without its tenant as the state of a listing."""
    return Property.model_validate({**row, "id": row["property_id"]} ...)
