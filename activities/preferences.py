"""The activity that saves commands on preferences of notices."""

from collections.abc import Sequence
from typing import Any

from pydantic import ConfigDict, TypeAdapter
from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncConnection
from temporalio import activity

from activities.saving import Aggregate, CommandStore, Loaded
from adapters.postgres import Write
from adapters.preferences import PREFERENCES_STATE, preferences_of_row
from adapters.tables import person_keys, preferences, users
from domain.command import Actor, Saved, SealedCommand
from domain.errors import AccountClosed
from domain.preferences import Preferences, PreferencesCommand, Unsubscribe, decide, evolve
from domain.roles import UserRole
from domain.user import MAY_SIGN_IN, UserStatus

_STATE = [column.label(f"preferences_{column.name}") for column in PREFERENCES_STATE]
_LOAD = (
    select(users.c.role, users.c.status, person_keys.c.wrapped_key, *_STATE)
    .select_from(users)
    .join(person_keys, person_keys.c.user_id == users.c.user_id)
    .outerjoin(preferences, preferences.c.user_id == users.c.user_id)
    .where(users.c.user_id == bindparam("actor_id"))
)


class NotificationPreferences:
    """Saves the commands on preferences."""

    def __init__(self, store: CommandStore) -> None:
        self._store = store

    @activity.defn
    async def save_preferences(self, command: SealedCommand) -> Saved:
        """Save a command, once. Raises the refusals of `domain/preferences.py` as ApplicationError."""
        return await self._store.save(PREFERENCES, command)


async def _load(connection: AsyncConnection, command: Any) -> Loaded[Preferences]:
    """Load the preferences of the user who sends the command. Raises AccountClosed.

    A suspended user may unsubscribe, because mails may come again when the suspension ends.
    """
    row = (await connection.execute(_LOAD, {"actor_id": command.user_id})).mappings().one_or_none()
    allowed = {*MAY_SIGN_IN, UserStatus.SUSPENDED} if isinstance(command, Unsubscribe) else MAY_SIGN_IN
    if row is None or row["status"] not in allowed:
        raise AccountClosed
    known = {column.name: row[f"preferences_{column.name}"] for column in PREFERENCES_STATE}
    state = preferences_of_row(known) if known["version"] else None
    return Loaded(
        state=state,
        version=state.version if state else 0,
        actor=Actor(user_id=command.user_id, role=UserRole(row["role"])),
        person_id=command.user_id,
        key=row["wrapped_key"],
    )


def _rows(command: Any, _: Loaded[Preferences], state: Preferences | None) -> Sequence[Write]:
    assert state is not None
    quiet = state.quiet_hours
    row = {
        "tenant_id": command.tenant_id,
        "user_id": state.user_id,
        "version": state.version,
        "kinds": {kind: channels.model_dump(by_alias=True) for kind, channels in state.kinds.items()},
        "quiet_from": quiet.from_ if quiet else None,
        "quiet_to": quiet.to if quiet else None,
        "updated_at": command.issued_at,
    }
    return [Write(preferences, row, "upsert")]


PREFERENCES: Aggregate[Preferences] = Aggregate(
    commands=TypeAdapter(PreferencesCommand, config=ConfigDict(hide_input_in_errors=True)),
    load=_load,
    decide=decide,
    evolve=evolve,
    rows=_rows,
)
