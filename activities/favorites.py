"""The activity that saves commands on favourites."""

from collections.abc import Container, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from pydantic import ConfigDict, TypeAdapter
from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncConnection
from temporalio import activity

from activities.saving import Aggregate, CommandStore, Loaded
from adapters.current_state import PROPERTY_STATE, property_of
from adapters.postgres import Write
from adapters.tables import favorites, person_keys, properties, users
from domain.command import Saved, SealedCommand
from domain.errors import AccountClosed
from domain.favorite_commands import Favorite, FavoriteCommand, Viewer, decide, evolve
from domain.roles import UserRole
from domain.user import MAY_SIGN_IN, UserStatus

_FAVORITE_STATE = [favorites.c[name].label(f"favorite_{name}") for name in Favorite.model_fields]
_LOAD = (
    select(
        users.c.role,
        users.c.status.label("account_status"),
        person_keys.c.wrapped_key,
        *PROPERTY_STATE,
        *_FAVORITE_STATE,
    )
    .select_from(users)
    .join(person_keys, person_keys.c.user_id == users.c.user_id)
    .outerjoin(properties, properties.c.property_id == bindparam("property_id"))
    .outerjoin(favorites, favorites.c.favorite_id == bindparam("favorite_id"))
    .where(users.c.user_id == bindparam("actor_id"))
)


class Favorites:
    """Saves the commands on favourites."""

    def __init__(self, store: CommandStore) -> None:
        self._store = store

    @activity.defn
    async def save_favorite(self, command: SealedCommand) -> Saved:
        """Save a command, once. Raises the refusals of `domain/favorite_commands.py` as ApplicationError."""
        return await self._store.save(FAVORITE, command)


async def _load(connection: AsyncConnection, command: Any, statuses: Container[str] = MAY_SIGN_IN) -> Loaded[Favorite]:
    """Load the favourite, the listing, and the user who sends the command, whose account has one of `statuses`.

    Raises AccountClosed.
    """
    ids = {"property_id": command.property_id, "favorite_id": command.aggregate_id, "actor_id": command.user_id}
    row = (await connection.execute(_LOAD, ids)).mappings().one_or_none()
    if row is None or row["account_status"] not in statuses:
        raise AccountClosed
    state = {name: row[f"favorite_{name}"] for name in Favorite.model_fields}
    listing = property_of(row) if row["property_id"] else None
    return Loaded(
        state=Favorite(**state) if state["version"] else None,
        version=state["version"] or 0,
        actor=Viewer(user_id=command.user_id, role=UserRole(row["role"]), listing=listing),
        person_id=command.user_id,
        key=row["wrapped_key"],
    )


def _rows(command: Any, _: Loaded[Favorite], state: Favorite | None) -> Sequence[Write]:
    assert state is not None
    row = {"tenant_id": command.tenant_id, "favorite_id": command.aggregate_id, **state.model_dump()}
    return [Write(favorites, row, "upsert")]


FAVORITE: Aggregate[Favorite] = Aggregate(
    commands=TypeAdapter(FavoriteCommand, config=ConfigDict(hide_input_in_errors=True)),
    load=_load,
    decide=decide,
    evolve=evolve,
    rows=_rows,
)
ERASED_USERS_FAVORITE = replace(FAVORITE, load=partial(_load, statuses={UserStatus.DELETED}))
"""For the commands of an erasure, whose account is closed."""
