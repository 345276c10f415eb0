"""The activity that saves commands on accounts."""

from collections.abc import Callable, Sequence
from typing import Any

from pydantic import ConfigDict, TypeAdapter
from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncConnection
from temporalio import activity

from activities.saving import Aggregate, CommandStore, Loaded
from adapters.current_state import find_user
from adapters.postgres import Write
from adapters.tables import person_keys, user_profiles, users
from domain.command import Saved, SealedCommand
from domain.errors import EmailTaken, UsernameTaken, UserNotFound
from domain.user import User
from domain.user_commands import RegisterUser, UserCommand, decide, evolve

_ACCOUNT = {"version", "username", "email", "role", "status", "created_at", "updated_at"}
_PROFILE = {"first_name", "last_name", "phone_number"}
_KEY = select(person_keys.c.wrapped_key).where(person_keys.c.user_id == bindparam("user_id"))
_CONFLICTS = {"users_email_key": EmailTaken(field="email"), "users_username_key": UsernameTaken(field="username")}


class Users:
    """Saves the commands on accounts."""

    def __init__(self, store: CommandStore, new_wrapped_key: Callable[[], bytes]) -> None:
        """`new_wrapped_key` creates the encryption key of a new account."""
        self._store = store
        self._new_wrapped_key = new_wrapped_key
        self._user: Aggregate[User] = Aggregate(
            commands=TypeAdapter(UserCommand, config=ConfigDict(hide_input_in_errors=True)),
            load=self._load,
            decide=decide,
            evolve=evolve,
            rows=_rows,
            conflicts=_CONFLICTS,
        )

    @activity.defn
    async def save_user(self, command: SealedCommand) -> Saved:
        """Save a command, once. Raises the refusals of `domain/user_commands.py` as ApplicationError."""
        return await self._store.save(self._user, command)

    async def _load(self, connection: AsyncConnection, command: Any) -> Loaded[User]:
        """Load the account and its key. Raises UserNotFound."""
        if isinstance(command, RegisterUser):
            return Loaded(None, 0, None, command.user_id, self._new_wrapped_key())
        state = await find_user(connection, command.user_id)
        key: bytes | None = (await connection.execute(_KEY, {"user_id": command.user_id})).scalar_one_or_none()
        if state is None or key is None:
            raise UserNotFound
        return Loaded(state, state.version, None, command.user_id, key)


def _rows(command: Any, loaded: Loaded[User], state: User | None) -> Sequence[Write]:
    assert state is not None
    key = {"tenant_id": command.tenant_id, "user_id": command.user_id}
    account, profile = state.model_dump(include=_ACCOUNT), state.model_dump(include=_PROFILE)
    if isinstance(command, RegisterUser):
        return [
            Write(users, {**key, **account, "password_hash": command.password_hash}),
            Write(user_profiles, {**key, **profile}),
            Write(person_keys, {**key, "wrapped_key": loaded.key}),
        ]
    return [Write(users, {**key, **account}, "update"), Write(user_profiles, {**key, **profile}, "update")]
