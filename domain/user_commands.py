"""The commands and events of an account, with `decide` and `evolve`."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from domain import fields as f
from domain.command import Actor, Change, Command
from domain.errors import UserNotFound, check_version
from domain.model import Fact, Model
from domain.roles import UserRole
from domain.user import OpenRole, User, UserStatus


class Account(Model):
    """The registration without the password."""

    username: Annotated[f.Username, f.PERSONAL]
    email: Annotated[f.Email, f.PERSONAL]
    first_name: Annotated[f.PersonName, f.PERSONAL]
    last_name: Annotated[f.PersonName, f.PERSONAL]
    phone_number: Annotated[f.Phone | None, f.PERSONAL] = None
    role: OpenRole = UserRole.USER


class RegisterUser(Command):
    """Open an account. The API has hashed the password; the argon2id hash is encrypted like a personal value."""

    type: Literal["register-user"] = "register-user"
    account: Account
    password_hash: Annotated[str, f.PERSONAL]

    @property
    def aggregate_id(self) -> UUID:
        return self.user_id


class ChangeRole(Change):
    """Change the role of an account. Sent by the operator (`python -m admin`)."""

    type: Literal["change-role"] = "change-role"
    role: UserRole

    @property
    def aggregate_id(self) -> UUID:
        return self.user_id


UserCommand = Annotated[RegisterUser | ChangeRole, Field(discriminator="type")]


class _WholeUser(Fact):
    """The whole public state of an account after a change."""

    user_id: UUID
    username: Annotated[f.Username | f.Sealed, f.PERSONAL]
    email: Annotated[f.Email | f.Sealed, f.PERSONAL]
    first_name: Annotated[f.PersonName | f.Sealed, f.PERSONAL]
    last_name: Annotated[f.PersonName | f.Sealed, f.PERSONAL]
    phone_number: Annotated[f.Phone | f.Sealed | None, f.PERSONAL] = None
    role: UserRole
    status: UserStatus


class UserRegistered(_WholeUser):
    """USER_REGISTERED: the whole public state of an account that was just opened."""


class UserUpdated(_WholeUser):
    """USER_UPDATED: fields of an account have changed."""

    changed: tuple[str, ...]
    """Names of the fields that changed."""


UserFact = UserRegistered | UserUpdated

_STATE_FIELDS = [name for name in _WholeUser.model_fields if name != "user_id"]


def decide(state: User | None, command: UserCommand, by: Actor | None) -> list[UserFact]:
    """The events that `command` causes; empty when it changes nothing. Raises UserNotFound or VersionConflict."""
    if isinstance(command, RegisterUser):
        if state is not None:
            return []
        opened = {"user_id": command.user_id, "status": UserStatus.PENDING_VERIFICATION, **dict(command.account)}
        return [UserRegistered(**opened)]
    if state is None:
        raise UserNotFound()
    check_version(command.expected_versions, state.version)
    if command.role is state.role:
        return []
    fields = {name: getattr(state, name) for name in _STATE_FIELDS} | {"role": command.role}
    return [UserUpdated(user_id=state.id, changed=("role",), **fields)]


def evolve(state: User | None, fact: UserFact, version: int, at: datetime) -> User:
    """The state after an event, whose personal fields must be decrypted."""
    known = dict(state) if state else {"id": fact.user_id, "created_at": at}
    fields = {name: getattr(fact, name) for name in _STATE_FIELDS}
    return User(**{**known, **fields, "version": version, "updated_at": at})
