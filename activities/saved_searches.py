"""The activity that saves commands on saved searches."""

from collections.abc import Sequence
from typing import Any

import orjson
from pydantic import ConfigDict, TypeAdapter
from sqlalchemy import bindparam, func, select
from sqlalchemy.ext.asyncio import AsyncConnection
from temporalio import activity

from activities.saving import Aggregate, CommandStore, Loaded
from adapters.postgres import Write
from adapters.saved_searches import SAVED_SEARCH_STATE, saved_search_of_row
from adapters.tables import person_keys, saved_filters, saved_search_matches, users
from domain.command import Saved, SealedCommand
from domain.errors import AccountClosed
from domain.roles import UserRole
from domain.saved_searches import PauseSavedSearch, SavedSearch, SavedSearchCommand, Searcher, decide, evolve
from domain.user import MAY_SIGN_IN, UserStatus

_STATE = [column.label(f"search_{column.name}") for column in SAVED_SEARCH_STATE]
_OTHERS = saved_filters.alias("others")
_LOAD = (
    select(
        users.c.role,
        users.c.status,
        person_keys.c.wrapped_key,
        select(func.count()).where(_OTHERS.c.user_id == bindparam("actor_id")).scalar_subquery().label("saved"),
        *_STATE,
    )
    .select_from(users)
    .join(person_keys, person_keys.c.user_id == users.c.user_id)
    .outerjoin(
        saved_filters,
        (saved_filters.c.saved_search_id == bindparam("saved_search_id"))
        & (saved_filters.c.user_id == users.c.user_id),
    )
    .where(users.c.user_id == bindparam("actor_id"))
)


class SavedSearches:
    """Saves the commands on saved searches."""

    def __init__(self, store: CommandStore) -> None:
        self._store = store

    @activity.defn
    async def save_saved_search(self, command: SealedCommand) -> Saved:
        """Save a command, once. Raises the refusals of `domain/saved_searches.py` as ApplicationError."""
        return await self._store.save(SAVED_SEARCH, command)


async def _load(connection: AsyncConnection, command: Any) -> Loaded[SavedSearch]:
    """Load the saved search, if it is one of the user who sends the command. Raises AccountClosed.

    A suspended user may stop the mails of one, because they may come again when the suspension ends.
    """
    ids = {"saved_search_id": command.saved_search_id, "actor_id": command.user_id}
    row = (await connection.execute(_LOAD, ids)).mappings().one_or_none()
    allowed = {*MAY_SIGN_IN, UserStatus.SUSPENDED} if isinstance(command, PauseSavedSearch) else MAY_SIGN_IN
    if row is None or row["status"] not in allowed:
        raise AccountClosed
    known = {column.name: row[f"search_{column.name}"] for column in SAVED_SEARCH_STATE}
    state = saved_search_of_row(known) if known["version"] else None
    return Loaded(
        state=state,
        version=state.version if state else 0,
        actor=Searcher(user_id=command.user_id, role=UserRole(row["role"]), saved=row["saved"]),
        person_id=command.user_id,
        key=row["wrapped_key"],
    )


def _rows(command: Any, _: Loaded[SavedSearch], state: SavedSearch | None) -> Sequence[Write]:
    key = {"tenant_id": command.tenant_id, "saved_search_id": command.saved_search_id}
    if state is None:
        return [Write(saved_filters, key, "delete"), Write(saved_search_matches, key, "delete")]
    row = {**state.model_dump(exclude={"id"}), "filters": orjson.loads(state.filters)}
    if not isinstance(command, PauseSavedSearch):
        row["unread_mails"] = []  # who changes a saved search has seen what comes of it
    return [Write(saved_filters, {**key, **row}, "upsert")]


SAVED_SEARCH: Aggregate[SavedSearch] = Aggregate(
    commands=TypeAdapter(SavedSearchCommand, config=ConfigDict(hide_input_in_errors=True)),
    load=_load,
    decide=decide,
    evolve=evolve,
    rows=_rows,
)
